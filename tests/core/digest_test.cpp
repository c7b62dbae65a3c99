#include "core/digest.h"

#include <gtest/gtest.h>

#include "core/atomic_file.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

TEST(Digest, IsSha256) {
  // FIPS 180-2, appendix B.1.
  EXPECT_EQ(digest_of("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  TemporaryFolder folder;
  write_file(folder / "a", "abc");
  EXPECT_EQ(digest_of_file(folder / "a"), digest_of("abc"));
}

TEST(Digest, OfAFileOfSeveralPiecesIsSha256) {
  // Of 3,000,000 letters, by Python's hashlib.
  const std::string text(3'000'000, 'a'), expected = "2a152c894398719c0570f83fac34ac03a0f6e8e474b995c2403aa5434f7b9dd4";
  EXPECT_EQ(digest_of(text), expected);
  TemporaryFolder folder;
  write_file(folder / "a", text);
  EXPECT_EQ(digest_of_file(folder / "a"), expected);
}

TEST(Digest, OfTensorsSeesNameDtypeShapeAndBytes) {
  const auto of = [](const std::string& name, const at::Tensor& tensor) {
    return digest_of(MemoryTensors({{name, tensor}}));
  };
  const auto x = at::zeros({2, 3});
  const auto reference = of("a", x);
  EXPECT_EQ(reference, of("a", at::zeros({3, 2}).t()));
  EXPECT_NE(reference, of("b", x));
  EXPECT_NE(reference, of("a", at::zeros({3, 2})));
  EXPECT_NE(reference, of("a", at::zeros({2, 3}, at::kInt)));
  EXPECT_NE(reference, of("a", at::ones({2, 3})));
}

}  // namespace
}  // namespace amalgam
