#include "datasets/split.h"

#include <algorithm>
#include <cmath>

#include "expect_error.h"

namespace amalgam {
namespace {

using ::testing::HasSubstr;

TEST(Split, IsReadByItsName) {
  for (const Split split : {Split::kTrain, Split::kVal, Split::kTest})
    EXPECT_EQ(split_from_name(name_of(split)), split);
  EXPECT_THAT(input_error_of([] { split_from_name("tes"); }), HasSubstr("'test'"));
}

TEST(Split, CutsTrainIntoTwoDisjointPartsThatAreAll) {
  for (const int64_t count : {2, 3, 19, 20, 21, 1000})
    for (const double fraction : {0.05, 0.3, 0.5}) {
      auto all = cut_train(count, fraction, 7, Split::kTrain);
      const auto val = cut_train(count, fraction, 7, Split::kVal);
      EXPECT_TRUE(std::is_sorted(all.begin(), all.end()) && std::is_sorted(val.begin(), val.end()));
      EXPECT_EQ(static_cast<int64_t>(val.size()), std::max<int64_t>(1, std::llround(fraction * double(count))));
      all.insert(all.end(), val.begin(), val.end());
      std::sort(all.begin(), all.end());
      ASSERT_EQ(static_cast<int64_t>(all.size()), count);
      for (int64_t i = 0; i < count; ++i) EXPECT_EQ(all[static_cast<size_t>(i)], i);
    }
}

TEST(Split, TakesNothingForAFractionOfZero) {
  EXPECT_TRUE(cut_train(10, 0, 7, Split::kVal).empty());
  EXPECT_EQ(cut_train(10, 0, 7, Split::kTrain).size(), 10u);
}

TEST(Split, CutsAnotherPartForAnotherSeed) {
  EXPECT_EQ(cut_train(1000, 0.1, 7, Split::kVal), cut_train(1000, 0.1, 7, Split::kVal));
  EXPECT_NE(cut_train(1000, 0.1, 7, Split::kVal), cut_train(1000, 0.1, 8, Split::kVal));
}

}  // namespace
}  // namespace amalgam
