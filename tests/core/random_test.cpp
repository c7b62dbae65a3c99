#include "core/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

namespace amalgam {
namespace {

TEST(RandomStream, DependsOnItsKeyAlone) {
  const RandomStream a(7, "labels"), same(7, "labels");
  EXPECT_EQ(a.bits(3, 4), same.bits(3, 4));
  std::set<uint64_t> seen = {a.bits(3, 4), a.bits(4, 3), a.bits(3, 5), RandomStream(8, "labels").bits(3, 4),
                             RandomStream(7, "label").bits(3, 4)};
  EXPECT_EQ(seen.size(), 5U);
}

TEST(RandomStream, GivesTheNumbersThatItHasAlwaysGiven) {
  // By SplitMix64's finaliser in Python: other numbers would be other models of the same seed.
  EXPECT_EQ(RandomStream(7, "labels").bits(3, 4), 0xca7554e42d44ad9cU);
  EXPECT_EQ(RandomStream(3, "shuffle").permutation(7), (std::vector<int64_t>{0, 4, 1, 3, 6, 5, 2}));
}

TEST(RandomStream, DrawsUniformlyAndNormally) {
  const RandomStream stream(1, "moments");
  const int n = 20000;
  double mean = 0, square = 0, normal_mean = 0, normal_square = 0, normal_fourth = 0;
  for (int i = 0; i < n; ++i) {
    const double u = stream.uniform(static_cast<uint64_t>(i));
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    mean += u / n;
    square += u * u / n;
    const double z = stream.normal(static_cast<uint64_t>(i), 5);
    normal_mean += z / n;
    normal_square += z * z / n;
    normal_fourth += std::pow(z, 4) / n;
  }
  const double sigma = 1 / std::sqrt(n);
  EXPECT_NEAR(mean, 0.5, 4 * sigma * std::sqrt(1.0 / 12));
  EXPECT_NEAR(square, 1.0 / 3, 4 * sigma * std::sqrt(4.0 / 45));
  EXPECT_NEAR(normal_mean, 0.0, 4 * sigma);
  EXPECT_NEAR(normal_square, 1.0, 4 * sigma * std::sqrt(2.0));
  EXPECT_NEAR(normal_fourth, 3.0, 4 * sigma * std::sqrt(96.0));  // 1.8 where draws are uniform
}

TEST(RandomStream, PermutesEveryNumberOnceAndDiffersByEpoch) {
  const RandomStream stream(3, "shuffle");
  auto order = stream.permutation(101), other = stream.permutation(101, 1);
  EXPECT_NE(order, other);
  std::sort(order.begin(), order.end());
  for (int64_t i = 0; i < 101; ++i) EXPECT_EQ(order[static_cast<size_t>(i)], i);
}

TEST(RandomStream, PermutationsAreUniform) {
  // Six orders of three, 6000 draws: χ² with 5 degrees of freedom stays below 20.5 with probability 0.999.
  std::map<std::vector<int64_t>, int> counts;
  const RandomStream stream(5, "orders");
  for (uint64_t i = 0; i < 6000; ++i) ++counts[stream.permutation(3, i)];
  double chi = 0;
  for (const auto& [order, count] : counts) chi += std::pow(count - 1000.0, 2) / 1000.0;
  EXPECT_EQ(counts.size(), 6U);
  EXPECT_LT(chi, 20.5);
}

}  // namespace
}  // namespace amalgam
