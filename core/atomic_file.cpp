#include "core/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "core/error.h"

namespace amalgam {
namespace {

/// The disk begins to write after each: or else `commit` waits for all of it.
constexpr size_t kPortion = size_t{8} << 20;

constexpr std::string_view kTemporaryEnding = ".XXXXXX";  // mkstemp's: it puts letters and digits for these

[[noreturn]] void fail(const char* what, const std::filesystem::path& path) {
  const int reason = errno;
  const char* remedy = reason == ENOSPC                      ? "free some space, or write to another disk"
                       : reason == EACCES || reason == EROFS ? "choose a folder that you may write to"
                                                             : "see that the folder is there and the disk is healthy";
  throw InputError(fmt::format("{} {}: {}; {}", what, path.string(), std::strerror(reason), remedy));
}

void sync_path(const std::filesystem::path& path, int flags) {
  const int descriptor = ::open(path.c_str(), flags | O_CLOEXEC);
  if (descriptor < 0) fail("cannot open", path);
  const bool synced = ::fsync(descriptor) == 0 || errno == EINVAL;  // EINVAL: a file system without folder syncs
  ::close(descriptor);
  if (!synced) fail("cannot sync", path);
}

}  // namespace

AtomicFile::AtomicFile(std::filesystem::path path) : path_(std::move(path)) {
  const auto folder = path_.has_parent_path() ? path_.parent_path() : std::filesystem::path(".");
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  require_input(!error, "cannot make the folder {}: {}", folder.string(), error.message());
  std::string name = path_.string().append(kTemporaryEnding);
  descriptor_ = ::mkostemp(name.data(), O_CLOEXEC);
  temporary_ = name;
  if (descriptor_ < 0) fail("cannot write", path_);
  ::fchmod(descriptor_, 0644);
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, size_t size) {
  const auto* bytes = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t written = ::write(descriptor_, bytes, std::min(size, kPortion));
    if (written < 0) {
      if (errno == EINTR) continue;
      fail("cannot write", path_);
    }
    bytes += written;
    size -= static_cast<size_t>(written);
    if (static_cast<size_t>(written) == kPortion)  // advice: `commit` syncs
      ::sync_file_range(descriptor_, 0, 0, SYNC_FILE_RANGE_WRITE);
  }
}

void AtomicFile::commit() {
  sync_path(temporary_, O_RDONLY);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail("cannot rename to", path_);
  ::close(descriptor_);
  descriptor_ = -1;
  sync_folder(path_.has_parent_path() ? path_.parent_path() : std::filesystem::path("."));
}

void sync_folder(const std::filesystem::path& folder) { sync_path(folder, O_RDONLY | O_DIRECTORY); }

void remove_unfinished(const std::filesystem::path& path) {
  const std::string begin = path.filename().string() + '.';
  const auto is_temporary = [&](const std::string& name) {
    return name.size() == path.filename().string().size() + kTemporaryEnding.size() && name.starts_with(begin) &&
           std::all_of(name.begin() + static_cast<ptrdiff_t>(begin.size()), name.end(),
                       [](unsigned char c) { return std::isalnum(c) != 0; });
  };
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(path.parent_path(), ignored))
    if (is_temporary(entry.path().filename().string())) std::filesystem::remove(entry.path(), ignored);
}

void write_file(const std::filesystem::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

std::string read_file(const std::filesystem::path& path) {
  require_input(!std::filesystem::is_directory(path), "cannot read {}: it is a folder", path.string());
  std::ifstream file(path, std::ios::binary);
  require_input(file.good(), "cannot read {}: {}", path.string(), std::strerror(errno));
  std::ostringstream content;
  content << file.rdbuf();
  require_input(!file.bad(), "cannot read {} to its end", path.string());
  return std::move(content).str();
}

}  // namespace amalgam
