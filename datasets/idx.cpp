#include "datasets/idx.h"

#include <fmt/ranges.h>

#include <array>
#include <string>

#include "core/error.h"
#include "datasets/byte_reader.h"

namespace amalgam {

namespace {

struct IdxHeader {
  std::vector<int64_t> shape;
  uint64_t header_bytes = 0, content_bytes = 0;

  uint64_t total() const { return header_bytes + content_bytes; }
};

std::string promise(const std::filesystem::path& path, const IdxHeader& header) {
  return fmt::format("{}: its header promises {} = {} bytes", path.string(), fmt::join(header.shape, " x "),
                     header.content_bytes);
}

IdxHeader read_header(ByteReader& reader, const std::filesystem::path& path, size_t axes) {
  std::vector<unsigned char> bytes(4 + 4 * axes);
  const size_t got = reader.read(bytes.data(), bytes.size());
  require_input(got == bytes.size(), "{}: an IDX header of {} axes takes {} bytes, the file holds {}{}", path.string(),
                axes, bytes.size(), got, reader.cut_off() ? " (its gzip data is cut off)" : "");
  require_input(bytes[0] == 0 && bytes[1] == 0,
                "{}: is not an IDX file: it begins with {:02x} {:02x} {:02x} {:02x}, not 00 00", path.string(),
                bytes[0], bytes[1], bytes[2], bytes[3]);
  require_input(bytes[2] == 0x08,
                "{}: IDX values of type 0x{:02x}; only unsigned bytes (0x08) are read. Convert the file to "
                "the `tensors` format, which takes any type",
                path.string(), bytes[2]);
  require_input(bytes[3] == axes, "{}: its IDX header has {} axes, expected {} ({})", path.string(), bytes[3], axes,
                axes == 1 ? "labels: count" : "images: count, height, width");

  IdxHeader header{.shape = {}, .header_bytes = bytes.size(), .content_bytes = 1};
  for (size_t axis = 0; axis < axes; ++axis) {
    const unsigned char* word = bytes.data() + 4 + 4 * axis;
    const uint64_t length =
        uint64_t{word[0]} << 24 | uint64_t{word[1]} << 16 | uint64_t{word[2]} << 8 | uint64_t{word[3]};
    header.shape.push_back(static_cast<int64_t>(length));
    require_input(length > 0, "{}: axis {} of its IDX header is 0; a data set needs at least one example and one pixel",
                  path.string(), axis);
    // Saturates: lengths below 2³² times a product at most the capacity cannot wrap before it is seen to be too large.
    require_input(header.content_bytes <= reader.capacity() / length,
                  "{}: its header promises {} bytes or more, but a file of this size can hold {} bytes at most; fetch "
                  "the file again",
                  path.string(), fmt::join(header.shape, " x "), reader.capacity());
    header.content_bytes *= length;
  }
  return header;
}

/// Throws unless what follows the header is `header.content_bytes` long.
void require_content(const std::filesystem::path& path, const IdxHeader& header, uint64_t held, bool cut_off) {
  require_input(held >= header.content_bytes && !cut_off, "{}, the file holds {}{}; fetch the file again",
                promise(path, header), held, cut_off ? " (its gzip data is cut off)" : "");
  require_input(held == header.content_bytes, "{}, but more follow; is it the file that it seems to be?",
                promise(path, header));
}

}  // namespace

at::Tensor read_idx(const std::filesystem::path& path, size_t axes) {
  ByteReader reader(path);
  const IdxHeader header = read_header(reader, path, axes);
  at::Tensor values = at::empty(header.shape, at::kByte);
  uint64_t held = reader.read(values.mutable_data_ptr(), header.content_bytes);
  unsigned char beyond = 0;
  held += reader.read(&beyond, 1);  // also passes the end, where gzip keeps its checksum
  require_content(path, header, held, reader.cut_off());
  return values;
}

std::vector<int64_t> check_idx(const std::filesystem::path& path, size_t axes) {
  ByteReader reader(path);
  const IdxHeader header = read_header(reader, path, axes);
  constexpr uint64_t kTrailerModulus = uint64_t{1} << 32;
  const uint64_t expected = reader.compressed() ? header.total() % kTrailerModulus : header.total();
  if (reader.stated_size() != expected) {
    const uint64_t held = reader.skip();
    require_content(path, header, held, reader.cut_off());
  }
  return header.shape;
}

}  // namespace amalgam
