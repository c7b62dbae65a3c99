#include "datasets/byte_reader.h"

#include <gtest/gtest.h>

#include "datasets/files.h"
#include "expect_error.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

using ::testing::HasSubstr;

std::string read_all(ByteReader& reader, size_t piece) {
  std::string all, buffer(piece, '\0');
  while (const size_t got = reader.read(buffer.data(), piece)) all += buffer.substr(0, got);
  return all;
}

/// Compresses badly enough to fill several chunks.
std::string text_of(size_t size) {
  std::string text;
  uint32_t state = 1;
  while (text.size() < size) text += static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
  return text;
}

TEST(ByteReader, ReadsPlainAndGzipAlikeInAnyPieces) {
  const TemporaryFolder folder;
  const std::string content = text_of(700'000);
  write_bytes(folder / "plain", content);
  write_bytes(folder / "packed", gzip(content));
  for (const char* name : {"plain", "packed"})
    for (const size_t piece : {size_t{4097}, content.size(), 2 * content.size()}) {
      ByteReader reader(folder / name);
      EXPECT_TRUE(read_all(reader, piece) == content) << name << ' ' << piece;
      EXPECT_FALSE(reader.cut_off());
      EXPECT_EQ(reader.stated_size(), content.size());
      EXPECT_GE(reader.capacity(), content.size());
    }
}

TEST(ByteReader, ReadsSeveralGzipMembersAsOne) {
  const TemporaryFolder folder;
  write_bytes(folder / "file", gzip("one ") + gzip("two"));
  ByteReader reader(folder / "file");
  EXPECT_EQ(read_all(reader, 3), "one two");
  EXPECT_FALSE(reader.cut_off());
}

TEST(ByteReader, ACapacityHoldsTheMostCompressibleContent) {
  const TemporaryFolder folder;
  write_bytes(folder / "zeros", gzip(std::string(10'000'000, '\0')));
  ByteReader reader(folder / "zeros");
  EXPECT_GE(reader.capacity(), 10'000'000u);
  EXPECT_LT(reader.capacity(), 12'000'000u);
  EXPECT_EQ(reader.skip(), 10'000'000u);
}

TEST(ByteReader, SaysWhereverGzipDataIsCutOff) {
  const TemporaryFolder folder;
  const std::string content = text_of(100), whole = gzip(content);
  for (size_t size = 2; size < whole.size(); ++size) {
    write_bytes(folder / "file", whole.substr(0, size));
    ByteReader reader(folder / "file");
    EXPECT_TRUE(content.starts_with(read_all(reader, 64)));
    EXPECT_TRUE(reader.cut_off()) << size << " of " << whole.size();
  }
}

TEST(ByteReader, RefusesDamagedContentByItsChecksum) {
  const TemporaryFolder folder;
  std::string bytes = gzip(text_of(5000));
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 4);
  write_bytes(folder / "file", bytes);
  EXPECT_THAT(input_error_of([&] { ByteReader(folder / "file").skip(); }), HasSubstr("damaged"));
}

TEST(ByteReader, RefusesBytesAfterGzipData) {
  const TemporaryFolder folder;
  write_bytes(folder / "file", gzip("content") + "more");
  EXPECT_THAT(input_error_of([&] { ByteReader(folder / "file").skip(); }),
              HasSubstr("followed by bytes that are not gzip"));
}

TEST(ByteReader, NamesAFileThatIsNotThere) {
  EXPECT_THAT(input_error_of([&] { ByteReader("/nowhere/file"); }), HasSubstr("/nowhere/file"));
  EXPECT_THAT(input_error_of([&] { ByteReader("/tmp"); }), HasSubstr("/tmp"));
}

}  // namespace
}  // namespace amalgam
