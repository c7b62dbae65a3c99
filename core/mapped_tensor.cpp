#include "core/mapped_tensor.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <limits>
#include <string>

#include "core/error.h"

namespace amalgam {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int get() const { return value_; }

 private:
  int value_;
};

[[noreturn]] void fail(const std::filesystem::path& folder, const TensorInfo& info, int reason) {
  const char* remedy = reason == ENOSPC || reason == EDQUOT  ? "free some space, or choose a folder on another disk"
                       : reason == EFBIG                     ? "raise the limit (ulimit -f), or choose another disk"
                       : reason == ENOMEM                    ? "raise the limit of address space (ulimit -v)"
                       : reason == EACCES || reason == EROFS ? "choose a folder that you may write to"
                                                             : "see that the folder is there and the disk is healthy";
  throw InputError(fmt::format("cannot map {} to a file in {}: {}; {}", describe(info), folder.string(),
                               std::strerror(reason), remedy));
}

/// The bytes of the tensor; EFBIG where no file can have as many.
size_t bytes_of(const std::filesystem::path& folder, const TensorInfo& info) {
  int64_t bytes = static_cast<int64_t>(c10::elementSize(info.dtype));
  bool fits = true, empty = false;
  for (const int64_t size : info.shape) {
    TORCH_CHECK(size >= 0, "a tensor's shape has no negative sizes: ", describe(info));
    empty = empty || size == 0;
    fits = fits && !__builtin_mul_overflow(bytes, size, &bytes);
  }
  if (empty) return 0;
  if (!fits) fail(folder, info, EFBIG);
  return static_cast<size_t>(bytes);
}

/// A file without a name, open for reading and writing; -1 and errno where there can be none.
int open_nameless(const std::filesystem::path& folder) {
  std::string name = (folder / "mapped.XXXXXX").string();
  const int descriptor = ::mkostemp(name.data(), O_CLOEXEC);
  if (descriptor >= 0) ::unlink(name.c_str());
  return descriptor;
}

}  // namespace

at::Tensor mapped_zeros(const std::filesystem::path& folder, const TensorInfo& info) {
  const auto options = at::TensorOptions().dtype(info.dtype);
  const size_t bytes = bytes_of(folder, info);
  if (bytes == 0) return at::zeros(info.shape, options);

  const Descriptor file(open_nameless(folder));
  if (file.get() < 0) fail(folder, info, errno);
  // Not ftruncate: a page of a hole for which the disk has no space left ends the program with SIGBUS when written.
  int reason = EINTR;
  while (reason == EINTR) reason = ::posix_fallocate(file.get(), 0, static_cast<off_t>(bytes));
  if (reason != 0) fail(folder, info, reason);
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  if (memory == MAP_FAILED) fail(folder, info, errno);
  return at::from_blob(
      memory, info.shape, [bytes](void* begin) { ::munmap(begin, bytes); }, options);
}

}  // namespace amalgam
