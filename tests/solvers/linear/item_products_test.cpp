#include "solvers/linear/item_products.h"

#include <gtest/gtest.h>

#include "solvers/random_matrices.h"

namespace amalgam {
namespace {

// Small matrices go in one batch, larger ones item by item: the items asked for are the same products.
TEST(ItemProducts, AreThoseOfTheItemsThatAreAskedFor) {
  test::RandomMatrices random(1);
  for (const int64_t size : {5, 130}) {
    const at::Tensor a = random.normal({3, size, 7}), b = random.normal({3, 7, size});
    at::Tensor out = at::zeros({3, size, size}, at::kDouble);
    EXPECT_EQ(multiplied_alone(out), size == 130);
    multiply_items(out, a, b, {0, 2});
    for (const int64_t item : {0, 2})
      EXPECT_LE(test::difference(out[item], a[item].mm(b[item])), 64 * test::kEps64) << size;
    if (size == 130) {
      EXPECT_TRUE(at::equal(out[1], at::zeros({size, size}, at::kDouble)));
    }
  }
}

}  // namespace
}  // namespace amalgam
