#include "solvers/relative_change.h"

#include <gtest/gtest.h>

#include "solvers/merge_case.h"

namespace amalgam {
namespace {

TEST(RelativeChange, IsTheNormOfTheChangeByTheNormOfTheBase) {
  test::MergeCase merge_case;
  merge_case.parameter("p", {2});
  merge_case.parameter("zero", {2});
  merge_case.draw({"a", "b"});
  merge_case.base["p"] = at::tensor({3.0, 4.0}, at::kDouble);
  merge_case.experts[0]["p"] = at::tensor({3.0, 5.0}, at::kDouble);
  merge_case.experts[1]["p"] = at::tensor({9.0, 12.0}, at::kDouble);
  merge_case.base["zero"] = at::zeros({2}, at::kDouble);
  merge_case.experts[0]["zero"] = at::zeros({2}, at::kDouble);
  merge_case.experts[1]["zero"] = at::tensor({0.0, 2.0}, at::kDouble);
  const auto changes = relative_changes(merge_case.build());
  EXPECT_DOUBLE_EQ(changes.at("p")[0], 0.2);
  EXPECT_DOUBLE_EQ(changes.at("p")[1], 2.0);
  EXPECT_EQ(changes.at("zero"), (std::vector<double>{0.0, 2.0}));
}

}  // namespace
}  // namespace amalgam
