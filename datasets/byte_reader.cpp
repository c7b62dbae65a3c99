#include "datasets/byte_reader.h"

#include <c10/util/Exception.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <vector>

#include "core/error.h"

namespace amalgam {

namespace {

constexpr size_t kChunk = size_t{1} << 18;

/// Deflate spends at least one bit on 129 bytes (a match of 258 costs two codes of one bit).
constexpr uint64_t kMostInflation = 1032;

}  // namespace

struct ByteReader::File {
  explicit File(const std::filesystem::path& path) : stream(path, std::ios::binary) {}

  size_t read(void* out, size_t size) {
    stream.read(static_cast<char*>(out), static_cast<std::streamsize>(size));
    return static_cast<size_t>(stream.gcount());
  }

  std::ifstream stream;
};

struct ByteReader::Inflater {
  Inflater() {
    constexpr int kGzipOnly = 16;
    TORCH_INTERNAL_ASSERT(inflateInit2(&stream, MAX_WBITS + kGzipOnly) == Z_OK);
  }
  ~Inflater() { inflateEnd(&stream); }

  z_stream stream{};
  std::vector<unsigned char> input = std::vector<unsigned char>(kChunk);
  bool between_members = false;
  int members = 0;
};

ByteReader::ByteReader(std::filesystem::path path) : path_(std::move(path)) {
  std::error_code error;
  file_size_ = std::filesystem::file_size(path_, error);
  require_input(!error, "{}: cannot be read: {}", path_.string(), error.message());
  file_ = std::make_unique<File>(path_);
  require_input(file_->stream.is_open(), "{}: cannot be opened: {}", path_.string(), std::strerror(errno));

  std::array<unsigned char, 2> magic{};
  const bool gzip = file_->read(magic.data(), magic.size()) == magic.size() && magic[0] == 0x1f && magic[1] == 0x8b;
  file_->stream.clear();
  file_->stream.seekg(0);
  if (gzip) inflater_ = std::make_unique<Inflater>();
}

ByteReader::~ByteReader() = default;

size_t ByteReader::read(void* out, size_t size) {
  return compressed() ? read_inflated(out, size) : file_->read(out, size);
}

size_t ByteReader::read_inflated(void* out, size_t size) {
  z_stream& stream = inflater_->stream;
  size_t done = 0;
  while (done < size) {
    if (stream.avail_in == 0) {
      stream.next_in = inflater_->input.data();
      stream.avail_in = static_cast<uInt>(file_->read(inflater_->input.data(), inflater_->input.size()));
      if (stream.avail_in == 0) {
        cut_off_ = !inflater_->between_members;
        return done;
      }
    }
    if (inflater_->between_members) inflateReset(&stream);
    inflater_->between_members = false;

    const size_t room = std::min(size - done, kChunk);
    stream.next_out = static_cast<Bytef*>(out) + done;
    stream.avail_out = static_cast<uInt>(room);
    const int status = inflate(&stream, Z_NO_FLUSH);
    done += room - stream.avail_out;
    if (status == Z_STREAM_END) {
      inflater_->between_members = true;
      ++inflater_->members;
      continue;
    }
    const bool follows = inflater_->members > 0 && stream.total_out == 0;
    require_input(status == Z_OK || !follows,
                  "{}: the gzip data is followed by bytes that are not gzip; fetch the file again", path_.string());
    require_input(status == Z_OK, "{}: the gzip data is damaged ({}); fetch the file again", path_.string(),
                  stream.msg ? stream.msg : zError(status));
  }
  return done;
}

uint64_t ByteReader::skip() {
  std::vector<unsigned char> scratch(kChunk);
  uint64_t total = 0;
  while (const size_t got = read(scratch.data(), scratch.size())) total += got;
  return total;
}

uint64_t ByteReader::capacity() const { return compressed() ? file_size_ * kMostInflation : file_size_; }

uint64_t ByteReader::stated_size() const {
  if (!compressed() || file_size_ < 4) return file_size_;
  std::array<unsigned char, 4> tail{};
  std::ifstream file(path_, std::ios::binary);
  file.seekg(-4, std::ios::end);
  file.read(reinterpret_cast<char*>(tail.data()), 4);
  uint64_t size = 0;
  for (int i = 3; i >= 0; --i) size = size << 8 | tail[static_cast<size_t>(i)];
  return size;
}

}  // namespace amalgam
