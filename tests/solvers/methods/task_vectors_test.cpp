#include "solvers/methods/task_vectors.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace amalgam
