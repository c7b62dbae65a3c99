#include "core/finite.h"

#include <gtest/gtest.h>

#include <limits>

namespace amalgam {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity(), kNan = std::numeric_limits<double>::quiet_NaN();

TEST(AllFinite, FindsOneValueAnywhereInEveryDtype) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf}) {
    SCOPED_TRACE(c10::toString(dtype));
    for (const int64_t n : {1, 7, 16, 33, 200000}) {
      const at::Tensor values = at::randn({n}, dtype);
      EXPECT_TRUE(all_finite(values));
      for (const double wrong : {kInfinity, -kInfinity, kNan})
        for (const int64_t place : {int64_t{0}, n / 2, n - 1}) {
          at::Tensor damaged = values.clone();
          damaged[place] = wrong;
          EXPECT_FALSE(all_finite(damaged)) << wrong << " at " << place << " of " << n;
        }
    }
  }
}

TEST(AllFinite, TakesTheLargestAndTheSmallestNumbersForFinite) {
  EXPECT_TRUE(all_finite(at::tensor({std::numeric_limits<float>::max(), std::numeric_limits<float>::lowest(),
                                     std::numeric_limits<float>::denorm_min(), -0.0F})));
  EXPECT_TRUE(all_finite(at::tensor({65504.0}).to(at::kHalf)));
  EXPECT_TRUE(all_finite(at::empty({0, 3})));
}

TEST(AllFinite, LooksAtWhatAViewShows) {
  at::Tensor values = at::zeros({4, 4});
  values[0][3] = kNan;
  EXPECT_TRUE(all_finite(values.slice(1, 0, 3)));
  EXPECT_FALSE(all_finite(values.t()));
  EXPECT_TRUE(all_finite(values.slice(0, 1, 4)));
}

}  // namespace
}  // namespace amalgam
