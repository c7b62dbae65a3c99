#include "solvers/methods/task_vectors.h"

#include <gmock/gmock.h>

#include <limits>

#include "expect_error.h"
#include "solvers/merge_case.h"

namespace amalgam {
namespace {

test::MergeCase& half_and_double(test::MergeCase& merge_case) {
  merge_case.parameter("half", {2});
  merge_case.parameter("double", {2});
  merge_case.draw({"a", "b"});
  merge_case.base["half"] = at::tensor({1.0, 2.0}).to(at::kBFloat16);
  merge_case.experts[0]["half"] = at::tensor({1.5, 2.0}).to(at::kBFloat16);
  merge_case.experts[1]["half"] = at::tensor({1.0, -2.0}).to(at::kBFloat16);
  merge_case.build();
  return merge_case;
}

TEST(TaskVectors, AreTheChangesInTheOrderOfTheExperts) {
  test::MergeCase merge_case;
  const auto changes = task_vectors(half_and_double(merge_case).input, "half");
  ASSERT_EQ(changes.size(), 2U);
  EXPECT_TRUE(at::equal(changes[0], at::tensor({0.5f, 0.0f})));
  EXPECT_TRUE(at::equal(changes[1], at::tensor({0.0f, -4.0f})));
}

TEST(TaskVectors, KeepDoublePrecisionAndNeedABase) {
  test::MergeCase merge_case;
  half_and_double(merge_case);
  EXPECT_EQ(task_vectors(merge_case.input, "double")[0].scalar_type(), at::kDouble);
  merge_case.input.base = nullptr;
  EXPECT_THROW(task_vectors(merge_case.input, "half"), c10::Error);
}

TEST(TaskVectors, RefuseValuesThatAreNotFiniteByParameterAndTask) {
  test::MergeCase merge_case;
  merge_case.parameter("p", {2});
  merge_case.draw({"a", "b"});
  merge_case.experts[1]["p"][0] = std::numeric_limits<double>::quiet_NaN();
  merge_case.build();
  EXPECT_THAT(input_error_of([&] { task_vectors(merge_case.input, "p"); }),
              testing::AllOf(testing::HasSubstr("'p'"), testing::HasSubstr("'b'")));
}

TEST(HeardTaskVectors, LeaveOutTasksOfWeightZero) {
  test::MergeCase merge_case;
  merge_case.parameter("p", {2});
  merge_case.draw({"a", "b", "c"});
  merge_case.weights = {0.0, -1.0, 2.0};
  merge_case.build();
  const HeardVectors heard = heard_task_vectors(merge_case.input, "p");
  const auto all = task_vectors(merge_case.input, "p");
  EXPECT_THAT(heard.weights, testing::ElementsAre(-1.0, 2.0));
  ASSERT_EQ(heard.changes.size(), 2U);
  EXPECT_TRUE(at::equal(heard.changes[0], all[1]));
  EXPECT_TRUE(at::equal(heard.changes[1], all[2]));
}

TEST(MergedParameters, AreTheFloatingOnesThatTheMethodSelects) {
  test::MergeCase merge_case;
  for (const char* name : {"p", "q", "count"}) merge_case.parameter(name, {2, 3});
  merge_case.draw({"a"});
  merge_case.base["count"] = merge_case.experts[0]["count"] = at::zeros({2, 3}, at::kLong);
  merge_case.build();
  const auto method = make_method(YAML::Load("{method: average, except: [q]}"), "merge");
  EXPECT_THAT(merged_parameters(*method, merge_case.input), testing::ElementsAre("p"));
  EXPECT_EQ(count_elements(merge_case.input, {"p", "q"}), 12);
}

}  // namespace
}  // namespace amalgam
