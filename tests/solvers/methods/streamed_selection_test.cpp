#include "solvers/methods/streamed_selection.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "core/random.h"

namespace amalgam {
namespace {

/// Gives the values in pieces of uneven sizes, an empty one among them.
GiveValues in_pieces(const std::vector<at::Tensor>& streams) {
  return [streams](const TakeValues& take) {
    for (size_t stream = 0; stream < streams.size(); ++stream) {
      const at::Tensor& values = streams[stream];
      const int64_t n = values.numel(), third = n / 3;
      take(stream, values.slice(0, third, third));
      take(stream, values.slice(0, third, n));
      take(stream, values.slice(0, 0, third));
    }
  };
}

std::vector<float> sorted_down(const at::Tensor& values) {
  const at::Tensor floats = values.to(at::kFloat).contiguous();
  std::vector<float> sorted(floats.data_ptr<float>(), floats.data_ptr<float>() + floats.numel());
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  return sorted;
}

std::vector<float> values_of(const std::vector<RankedValue>& ranked) {
  std::vector<float> values;
  for (const RankedValue& one : ranked) values.push_back(one.value);
  return values;
}

void expect_every_rank(const at::Tensor& values) {
  const std::vector<float> sorted = sorted_down(values);
  std::vector<int64_t> ranks;
  for (int64_t k = 1; k <= values.numel(); ++k) ranks.push_back(k);
  const auto found = kth_largest(1, ranks, in_pieces({values}));
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(values_of(found[0]), sorted);
  for (size_t i = 0; i < sorted.size(); ++i)
    EXPECT_EQ(found[0][i].place,
              std::count(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(i) + 1, sorted[i]));
}

at::Tensor normal(int64_t n, uint64_t seed = 1) {
  return at::randn({n}, RandomStream(seed, "selection test").generator(), at::kFloat);
}

TEST(KthLargest, IsThatOfASortAtEverySize) {
  for (const int64_t n : {1, 2, 3, 7, 31, 32, 33, 100}) {
    SCOPED_TRACE(n);
    expect_every_rank(normal(n));
    expect_every_rank(normal(n).abs());
  }
}

TEST(KthLargest, CountsEqualValuesOnceEach) { expect_every_rank((normal(101) * 2).round()); }

TEST(KthLargest, TellsApartNeighboursDenormalsAndInfinities) {
  const float tiny = std::numeric_limits<float>::denorm_min(), one = 1.0F, inf = std::numeric_limits<float>::infinity();
  expect_every_rank(at::tensor({0.0F, tiny, 2 * tiny, -tiny, std::numeric_limits<float>::min(), one,
                                std::nextafter(one, 2.0F), std::nextafter(one, 0.0F), -one, inf, -inf,
                                std::numeric_limits<float>::max(), std::numeric_limits<float>::lowest()}));
}

TEST(KthLargest, TakesBothZerosForOneValue) {
  const auto found = kth_largest(1, {1, 2, 3}, in_pieces({at::tensor({0.0F, -0.0F, -1.0F})}));
  EXPECT_EQ(values_of(found[0]), (std::vector<float>{0.0F, 0.0F, -1.0F}));
}

TEST(KthLargest, OfRankZeroIsAboveEveryValue) {
  const auto found = kth_largest(1, {0, 4}, in_pieces({at::tensor({3.0F, 1.0F, 2.0F, 4.0F})}));
  EXPECT_EQ(values_of(found[0]), (std::vector<float>{std::numeric_limits<float>::infinity(), 1.0F}));
}

TEST(KthLargest, KeepsStreamsApart) {
  const at::Tensor a = normal(57, 2), b = normal(57, 3) * 100;
  const auto found = kth_largest(2, {5, 50}, in_pieces({a, b}));
  EXPECT_EQ(values_of(found[0]), (std::vector<float>{sorted_down(a)[4], sorted_down(a)[49]}));
  EXPECT_EQ(values_of(found[1]), (std::vector<float>{sorted_down(b)[4], sorted_down(b)[49]}));
}

TEST(KthLargest, ComparesOtherPrecisionsAsFloat32) {
  const at::Tensor values = normal(65).to(at::kDouble) * (1.0 + 1e-12);
  expect_every_rank(values);
  expect_every_rank(normal(65).to(at::kBFloat16));
}

TEST(LargestMask, TakesTheEarlierOfEqualValuesWhateverThePieces) {
  const at::Tensor values = (normal(101).abs() * 2).round();
  const at::Tensor order = values.argsort(/*stable=*/true, /*dim=*/0, /*descending=*/true);
  for (const int64_t k : {0, 1, 2, 17, 50, 100, 101}) {
    const at::Tensor expected = at::zeros({101}, at::kBool).index_fill_(0, order.slice(0, 0, k), true);
    const RankedValue kth = kth_largest(1, {k}, in_pieces({values}))[0][0];
    for (const int64_t size : {1, 10, 101}) {
      LargestMask mask(kth);
      std::vector<at::Tensor> found;
      for (const at::Tensor& piece : values.split(size)) found.push_back(mask(piece));
      EXPECT_TRUE(at::equal(at::cat(found), expected)) << k << " in pieces of " << size;
    }
  }
}

TEST(KthLargest, RefusesRanksThatAreNotThereAndValuesThatAreNoNumbers) {
  EXPECT_THROW(kth_largest(1, {4}, in_pieces({normal(3)})), c10::Error);
  EXPECT_THROW(kth_largest(1, {1}, in_pieces({at::tensor({1.0F, std::numeric_limits<float>::quiet_NaN()})})),
               c10::Error);
}

}  // namespace
}  // namespace amalgam
