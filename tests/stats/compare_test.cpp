#include "stats/compare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "stats/small_statistics.h"

namespace amalgam {
namespace {

using namespace reference;
using testing::HasSubstr;

SumDifference difference(const std::string& name, const at::Tensor& in_a, const at::Tensor& in_b) {
  NamedTensors a = small_sums(0, 4), b = a;
  a[name] = in_a;
  b[name] = in_b;
  for (const SumDifference& sum : compare_statistics(make(small_header(0, 4), a), make(small_header(0, 4), b)).sums)
    if (sum.name == name)
      return sum;
    else
      EXPECT_TRUE(sum.within(0)) << sum.name;
  ADD_FAILURE() << name;
  return {};
}

TEST(CompareStatistics, FindNothingBetweenAFileAndItself) {
  const auto result = compare_statistics(small_statistics(0, 4), small_statistics(0, 4));
  EXPECT_TRUE(result.within(0));
  EXPECT_EQ(result.sums.size(), small_sums(0, 4).size());
}

TEST(CompareStatistics, GiveTheLargestAndTheFrobeniusDifference) {
  const auto result =
      difference("fc/input_sum", at::tensor({3.0, 1.0, 5.0}, at::kDouble), at::tensor({0.0, 4.0, 3.0}, at::kDouble));
  EXPECT_EQ(result.largest, 3);
  EXPECT_NEAR(result.relative, std::sqrt(9.0 + 9 + 4) / 5, 4 * kFloat64Epsilon);
  EXPECT_TRUE(result.within(0.94));
  EXPECT_FALSE(result.within(0.93));
}

TEST(CompareStatistics, CountRowsToo) {
  const auto result = difference("fc/rows", at::scalar_tensor(9, at::kLong), at::scalar_tensor(8, at::kLong));
  EXPECT_EQ(result.largest, 1);
  EXPECT_EQ(result.relative, 0.125);
}

TEST(CompareStatistics, OfAnythingWithZerosIsInfinitelyFar) {
  const auto ones = at::ones({3}, at::kDouble), zeros = at::zeros({3}, at::kDouble);
  EXPECT_TRUE(std::isinf(difference("fc/input_sum", ones, zeros).relative));
  EXPECT_TRUE(difference("fc/input_sum", zeros, zeros).within(0));
}

TEST(CompareStatistics, NeverHoldNotANumberForEqual) {
  const auto broken = at::full({3}, std::numeric_limits<double>::quiet_NaN(), at::kDouble);
  EXPECT_FALSE(difference("fc/input_sum", broken, broken).within(1));
}

TEST(CompareStatistics, SayWhichSideLacksASum) {
  NamedTensors fewer = small_sums(0, 4);
  fewer.erase("twin/rows");
  const auto result = compare_statistics(make(small_header(0, 4), fewer), small_statistics(0, 4));
  EXPECT_FALSE(result.within(1));
  for (const SumDifference& sum : result.sums)
    EXPECT_EQ(sum.refusal, sum.name == "twin/rows" ? "the first lacks it" : "");
}

TEST(CompareStatistics, DoNotCompareOtherShapes) {
  const auto result = difference("fc/input_sum", at::ones({2}, at::kDouble), at::ones({3}, at::kDouble));
  EXPECT_THAT(result.refusal, HasSubstr("[2] and"));
  EXPECT_FALSE(result.within(1));
}

TEST(CompareStatistics, NameEveryFieldThatDiffersButTheDigestOfTheSums) {
  StatisticsHeader other = small_header(4, 8);
  other.sums_digest = "0";
  other.seed = 4;
  other.unobserved = {"scale: why"};
  const auto fields = header_differences(small_header(0, 4), other);
  std::vector<std::string> names;
  for (const auto& field : fields) names.push_back(field.field);
  EXPECT_THAT(names, testing::ElementsAre("ranges", "seed", "unobserved"));
  EXPECT_EQ(fields[0].a, "[0, 4)");
  EXPECT_EQ(fields[0].b, "[4, 8)");
}

}  // namespace
}  // namespace amalgam
