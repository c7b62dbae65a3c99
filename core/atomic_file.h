#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

namespace amalgam {

/// A file that is there whole or not at all: written under a temporary name in the same folder, synced, then renamed.
/// Without `commit` the temporary file goes away with the object.
class AtomicFile {
 public:
  /// Makes the folder where it is missing.
  /// @throws InputError if the temporary file cannot be made
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// @throws InputError with the system's reason (no space left, …)
  void write(const void* data, size_t size);
  void write(std::string_view text) { write(text.data(), text.size()); }

  /// Where another writer (TorchScript's) may put the content in place of `write`.
  const std::filesystem::path& temporary() const { return temporary_; }

  /// Another place in the same folder, for a name that is known only once the content is.
  void set_path(std::filesystem::path path) { path_ = std::move(path); }

  /// Syncs the file, renames it, syncs the folder.
  void commit();

 private:
  std::filesystem::path path_, temporary_;
  int descriptor_ = -1;
};

/// Removes the temporary files beside `path` that writers of it left when they were killed. Nobody may be writing it.
void remove_unfinished(const std::filesystem::path& path);

/// Writes `text` to `path` through an AtomicFile.
void write_file(const std::filesystem::path& path, std::string_view text);

/// Makes sure that what was renamed into a folder, or out of it, is so on the disk.
/// @throws InputError if the folder cannot be synced
void sync_folder(const std::filesystem::path& folder);

/// The whole file.
/// @throws InputError if it cannot be read
std::string read_file(const std::filesystem::path& path);

}  // namespace amalgam
