#include "solvers/methods/tall_mask.h"

#include <gtest/gtest.h>

#include "core/packed_bits.h"

namespace amalgam {
namespace {

TEST(TallMask, IsSetWhereTheTaskOutweighsTheOthers) {
  const at::Tensor change = at::tensor({1.0, -1.0, 0.5, 0.0, 2.0}), sum = at::tensor({1.0, 1.0, 3.0, 0.0, 2.0});
  // The others' share: 0, 2, 2.5, 0, 0.
  EXPECT_TRUE(at::equal(tall_mask(change, sum, 0.4), at::tensor({1, 1, 0, 0, 1}).to(at::kBool)));
  EXPECT_TRUE(at::equal(tall_mask(change, sum, 0.5), at::tensor({1, 0, 0, 0, 1}).to(at::kBool)));
  EXPECT_TRUE(at::equal(tall_mask(change, sum, 0.0), at::tensor({1, 1, 1, 0, 1}).to(at::kBool)));
}

TEST(TallMask, RebuildsATaskThatSharesNoElementWithAnother) {
  const at::Tensor first = at::tensor({1.0, 0.0, -2.0, 0.0}), second = at::tensor({0.0, 3.0, 0.0, 0.5}),
                   sum = first + second;
  for (const at::Tensor& change : {first, second}) {
    const at::Tensor mask = unpack_bits(pack_bits(tall_mask(change, sum, 0.4)), {4});
    EXPECT_TRUE(at::equal(sum * mask, change));
  }
}

}  // namespace
}  // namespace amalgam
