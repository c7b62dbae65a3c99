#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>

namespace amalgam {

/// A file's bytes in order; inflated where the file is gzip, which its first two bytes tell, not its name. Several gzip
/// members are read as one.
class ByteReader {
 public:
  /// @throws InputError if the file is not there or cannot be read
  explicit ByteReader(std::filesystem::path path);
  ~ByteReader();
  ByteReader(const ByteReader&) = delete;
  ByteReader& operator=(const ByteReader&) = delete;

  /// Up to `size` bytes into `out`; fewer only where the content ends. Checksums of gzip are checked when the end is
  /// passed.
  /// @throws InputError if the gzip data is damaged or followed by something else
  size_t read(void* out, size_t size);
  /// Reads to the end and says how many bytes there were.
  uint64_t skip();

  /// Whether the last read met the end of the file in the middle of gzip data.
  bool cut_off() const { return cut_off_; }
  bool compressed() const { return inflater_ != nullptr; }

  /// No content of this file can be longer: its size, or the most that so many bytes of gzip can inflate to.
  uint64_t capacity() const;
  /// The content's length modulo 2³², as a whole file of one gzip member says in its last four bytes; the file's size
  /// where it is plain.
  uint64_t stated_size() const;

 private:
  struct File;
  struct Inflater;

  size_t read_inflated(void* out, size_t size);

  std::filesystem::path path_;
  uint64_t file_size_ = 0;
  std::unique_ptr<File> file_;
  std::unique_ptr<Inflater> inflater_;
  bool cut_off_ = false;
};

}  // namespace amalgam
