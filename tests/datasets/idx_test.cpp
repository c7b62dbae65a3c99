#include "datasets/idx.h"

#include <algorithm>

#include "datasets/files.h"
#include "expect_error.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// The error of reading and of checking `bytes`, which must be one and the same.
std::string error_of(const std::string& bytes, size_t axes = 3) {
  const TemporaryFolder folder;
  write_bytes(folder / "file", bytes);
  const std::string read = input_error_of([&] { read_idx(folder / "file", axes); });
  EXPECT_EQ(input_error_of([&] { check_idx(folder / "file", axes); }), read);
  EXPECT_THAT(read, HasSubstr((folder / "file").string()));
  return read;
}

TEST(Idx, ReadsImagesPlainAndGzip) {
  const TemporaryFolder folder;
  const std::string bytes = idx({5, 4, 3}, pixels(5));
  for (const auto& content : {bytes, gzip(bytes)}) {
    write_bytes(folder / "file", content);
    const at::Tensor images = read_idx(folder / "file", 3);
    EXPECT_EQ(images.scalar_type(), at::kByte);
    EXPECT_THAT(images.sizes().vec(), ElementsAre(5, 4, 3));
    EXPECT_THAT(check_idx(folder / "file", 3), ElementsAre(5, 4, 3));
    for (int64_t n = 0; n < 5; ++n)
      for (int64_t p = 0; p < 12; ++p) EXPECT_EQ(images[n][p / 3][p % 3].item<int64_t>(), 7 * n + p);
  }
}

TEST(Idx, ReadsLengthsAsBigEndian) {
  const TemporaryFolder folder;
  write_bytes(folder / "file", idx({0x0102}, std::string(0x0102, 'a')));
  EXPECT_THAT(read_idx(folder / "file", 1).sizes().vec(), ElementsAre(258));
}

TEST(Idx, ReadsConcatenatedGzipMembers) {
  const TemporaryFolder folder;
  write_bytes(folder / "file", gzip(idx({5}, "ab")) + gzip("cde"));
  EXPECT_THAT(check_idx(folder / "file", 1), ElementsAre(5));
  EXPECT_EQ(read_idx(folder / "file", 1)[4].item<int64_t>(), 'e');
}

TEST(Idx, SaysWhatTheHeaderPromisesAndTheFileHolds) {
  const auto says = AllOf(HasSubstr("promises 5 x 4 x 3 = 60 bytes"), HasSubstr("holds 59"));
  const std::string bytes = idx({5, 4, 3}, pixels(5).substr(1));
  EXPECT_THAT(error_of(gzip(bytes)), says);
  EXPECT_THAT(error_of(idx({50, 4, 3}, pixels(5))), HasSubstr("but a file of this size can hold"));
}

TEST(Idx, RefusesAPromiseThatNoMemoryCouldHoldBeforeAllocating) {
  const auto says = HasSubstr("but a file of this size can hold");
  EXPECT_THAT(error_of(idx({0xffffffff, 0xffffffff, 0xffffffff}, "x")), says);
  EXPECT_THAT(error_of(gzip(idx({0xffffffff, 0xffffffff, 0xffffffff}, "x"))), says);
  EXPECT_THAT(error_of(gzip(idx({0x80000000, 0x80000000, 4}, ""))), says);  // 2^64: wraps to 0
  EXPECT_THAT(error_of(gzip(idx({60000, 28, 28}, pixels(5)))), says);
}

TEST(Idx, RefusesTheHeaderOfAGzipFileThatEndsEarly) {
  EXPECT_THAT(error_of(gzip(std::string("\0\0\x08\x03\0\0", 6))), HasSubstr("the file holds 6"));
  EXPECT_THAT(error_of(std::string("\0\0\x08", 3)), HasSubstr("the file holds 3"));
  EXPECT_THAT(error_of(""), HasSubstr("the file holds 0"));
}

TEST(Idx, RefusesGzipDataCutOffAnywhere) {
  const std::string whole = gzip(idx({5, 4, 3}, pixels(5)));
  for (size_t size = 2; size < whole.size(); ++size)
    EXPECT_THAT(error_of(whole.substr(0, size)), HasSubstr("cut off")) << size << " of " << whole.size();
}

TEST(Idx, RefusesBytesBeyondWhatTheHeaderPromises) {
  EXPECT_THAT(error_of(idx({5, 4, 3}, pixels(5) + "x")), HasSubstr("more follow"));
  EXPECT_THAT(error_of(gzip(idx({5, 4, 3}, pixels(5) + "x"))), HasSubstr("more follow"));
  EXPECT_THAT(error_of(gzip(idx({5, 4, 3}, pixels(5))) + "trailing"), HasSubstr("bytes that are not gzip"));
}

TEST(Idx, RefusesAnotherKindOfFile) {
  EXPECT_THAT(error_of("\x89PNG and more than sixteen bytes"), HasSubstr("not an IDX file"));
  EXPECT_THAT(error_of(idx({60}, pixels(5))), HasSubstr("has 1 axes, expected 3"));
  EXPECT_THAT(error_of(idx({5, 4, 3}, pixels(5)), 1), HasSubstr("has 3 axes, expected 1"));
  std::string floats = idx({5, 4, 3}, pixels(5));
  floats[2] = '\x0d';
  EXPECT_THAT(error_of(floats), HasSubstr("type 0x0d"));
}

TEST(Idx, RefusesEmptyAxes) {
  EXPECT_THAT(error_of(idx({0, 4, 3}, "")), HasSubstr("axis 0"));
  EXPECT_THAT(error_of(idx({5, 4, 0}, pixels(5))), HasSubstr("axis 2"));
}

}  // namespace
}  // namespace amalgam
