#include "solvers/methods/experts.h"

#include <gmock/gmock.h>

#include "expect_error.h"
#include "solvers/merge_case.h"

namespace amalgam {
namespace {

TEST(Experts, AreHeardWhereTheirWeightIsNotZero) {
  test::MergeCase merge_case;
  merge_case.parameter("p", {2});
  merge_case.draw({"a", "b", "c"});
  merge_case.weights = {0.0, 2.0, -0.5};
  merge_case.build();
  const auto heard = heard_experts(merge_case.input);
  ASSERT_EQ(heard.size(), 2);
  EXPECT_EQ(heard[0].task, "b");
  EXPECT_EQ(heard[1].task, "c");
}

TEST(Experts, AreFoundByTheirTasks) {
  test::MergeCase merge_case;
  merge_case.parameter("p", {2});
  merge_case.draw({"left", "right"});
  merge_case.build();
  EXPECT_EQ(expert_of_task(merge_case.input.experts, "right", "merge.x"), 1);
  EXPECT_THAT(input_error_of([&] { expert_of_task(merge_case.input.experts, "righ", "merge.x"); }),
              testing::AllOf(testing::HasSubstr("merge.x"), testing::HasSubstr("'right'")));
}

}  // namespace
}  // namespace amalgam
