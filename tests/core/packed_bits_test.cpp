#include "core/packed_bits.h"

#include <gmock/gmock.h>

#include "core/random.h"
#include "expect_error.h"

namespace amalgam {
namespace {

using testing::HasSubstr;

at::Tensor random_mask(at::IntArrayRef sizes) {
  return at::rand(sizes, RandomStream(1, "mask test").generator(), at::kDouble) < 0.4;
}

TEST(PackBits, PutsTheFirstElementInTheLowestBit) {
  const at::Tensor mask = at::tensor({1, 0, 0, 1, 0, 0, 0, 1, 0, 1}).to(at::kBool);
  const at::Tensor packed = pack_bits(mask);
  ASSERT_EQ(packed.scalar_type(), at::kByte);
  EXPECT_TRUE(at::equal(packed, at::tensor({1 + 8 + 128, 2}).to(at::kByte)));
}

TEST(PackBits, IsUndoneAtEverySize) {
  for (const int64_t n : {0, 1, 7, 8, 9, 63, 64, 65, 1001}) {
    const at::Tensor mask = random_mask({n}), packed = pack_bits(mask);
    EXPECT_EQ(packed.numel(), (n + 7) / 8);
    EXPECT_TRUE(at::equal(unpack_bits(packed, {n}), mask)) << n;
  }
  const at::Tensor all = at::ones({3, 5}, at::kBool), kernel = random_mask({2, 3, 3}).transpose(0, 2);
  EXPECT_TRUE(at::equal(unpack_bits(pack_bits(all), {3, 5}), all));
  EXPECT_TRUE(at::equal(unpack_bits(pack_bits(kernel), {3, 3, 2}), kernel)) << "not contiguous";
  EXPECT_TRUE(at::equal(unpack_bits(pack_bits(at::ones({}, at::kBool)), {}), at::ones({}, at::kBool)));
}

TEST(UnpackBits, RefusesBytesOfAnotherParameter) {
  const at::Tensor packed = pack_bits(at::ones({10}, at::kBool));
  EXPECT_THAT(input_error_of([&] { unpack_bits(packed, {17}); }), HasSubstr("3 bytes, found 2"));
  EXPECT_THAT(input_error_of([&] { unpack_bits(packed, {9}); }), HasSubstr("after the last"));
  EXPECT_THROW(unpack_bits(packed.to(at::kInt), {10}), c10::Error);
  EXPECT_THROW(pack_bits(at::ones({3})), c10::Error);
}

}  // namespace
}  // namespace amalgam
