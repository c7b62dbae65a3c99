#pragma once

#include <zlib.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace amalgam {

inline void write_bytes(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

/// One gzip member.
inline std::string gzip(const std::string& content) {
  z_stream stream{};
  deflateInit2(&stream, Z_BEST_COMPRESSION, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, content.size()) + 32, '\0');
  std::string in = content;
  stream.next_in = reinterpret_cast<Bytef*>(in.data());
  stream.avail_in = static_cast<uInt>(in.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

/// An IDX file of unsigned bytes with a header of these lengths.
inline std::string idx(const std::vector<uint32_t>& lengths, const std::string& content) {
  std::string bytes = {'\0', '\0', '\x08', static_cast<char>(lengths.size())};
  for (const uint32_t length : lengths)
    for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(length >> shift & 0xff);
  return bytes + content;
}

/// `count` images of 4 x 3 pixels; pixel p of image n is (7 n + p) mod 256.
inline std::string pixels(int count) {
  std::string content;
  for (int n = 0; n < count; ++n)
    for (int p = 0; p < 12; ++p) content += static_cast<char>((7 * n + p) % 256);
  return content;
}

/// A split of `count` such images, image n with the label n mod `classes`.
inline void write_idx_split(const std::filesystem::path& root, const std::string& prefix, int count, int classes) {
  std::string labels;
  for (int n = 0; n < count; ++n) labels += static_cast<char>(n % classes);
  const auto size = static_cast<uint32_t>(count);
  write_bytes(root / (prefix + "-images-idx3-ubyte.gz"), gzip(idx({size, 4, 3}, pixels(count))));
  write_bytes(root / (prefix + "-labels-idx1-ubyte.gz"), gzip(idx({size}, labels)));
}

}  // namespace amalgam
