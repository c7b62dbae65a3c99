#include "solvers/methods/row_ranks.h"

#include <gtest/gtest.h>

#include <limits>

#include "core/random.h"

namespace amalgam {
namespace {

/// By LibTorch's stable sort.
at::Tensor sorted_ranks(const at::Tensor& values) {
  const at::Tensor order = values.argsort(/*stable=*/true, /*dim=*/1, /*descending=*/false);
  return at::empty_like(order).scatter_(1, order, at::arange(values.size(1)).expand_as(order)).to(at::kInt);
}

at::Tensor sizes(at::IntArrayRef shape) {
  return at::randn(shape, RandomStream(1, "row ranks test").generator(), at::kFloat).abs();
}

TEST(RanksInRows, AreThoseOfAStableSort) {
  for (const int64_t n : {1, 2, 7, 255, 256, 257, 3000}) {
    EXPECT_TRUE(at::equal(ranks_in_rows(sizes({5, n})), sorted_ranks(sizes({5, n})))) << n;
    const at::Tensor few = (sizes({3, n}) * 2).round();  // equal ones
    EXPECT_TRUE(at::equal(ranks_in_rows(few), sorted_ranks(few))) << n;
  }
}

TEST(RanksInRows, TellApartNeighboursDenormalsAndExtremes) {
  const float one = 1.0F, tiny = std::numeric_limits<float>::denorm_min();
  const at::Tensor values = at::tensor({std::numeric_limits<float>::max(), one, std::nextafter(one, 2.0F), 0.0F, tiny,
                                        2 * tiny, std::nextafter(one, 0.0F), std::numeric_limits<float>::min()})
                                .view({1, 8});
  EXPECT_TRUE(at::equal(ranks_in_rows(values), at::tensor({7, 5, 6, 0, 1, 2, 4, 3}, at::kInt).view({1, 8})));
}

TEST(RanksInRows, TakeEmptyRowsAndNone) {
  EXPECT_EQ(ranks_in_rows(at::empty({0, 4})).sizes(), at::IntArrayRef({0, 4}));
  EXPECT_EQ(ranks_in_rows(at::empty({4, 0})).sizes(), at::IntArrayRef({4, 0}));
  EXPECT_THROW(ranks_in_rows(at::empty({4})), c10::Error);
}

}  // namespace
}  // namespace amalgam
