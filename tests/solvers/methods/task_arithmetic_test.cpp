#include "solvers/methods/task_arithmetic.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/error.h"
#include "solvers/merge_case.h"

namespace amalgam {
namespace {

using test::MergeCase;

/// Base (1, 2), changes (1, 0) and (2, -1).
MergeCase& two_experts(MergeCase& merge_case) {
  merge_case.parameter("p", {2});
  merge_case.draw({"a", "b"});
  merge_case.base["p"] = at::tensor({1.0, 2.0}, at::kDouble);
  merge_case.experts[0]["p"] = at::tensor({2.0, 2.0}, at::kDouble);
  merge_case.experts[1]["p"] = at::tensor({3.0, 1.0}, at::kDouble);
  return merge_case;
}

void expect_merged(MergeCase& merge_case, const std::string& entry, double first, double second) {
  const at::Tensor merged = merge_case.merge(entry).merged.at("p");
  EXPECT_NEAR(merged[0].item<double>(), first, 1e-14);
  EXPECT_NEAR(merged[1].item<double>(), second, 1e-14);
}

TEST(TaskArithmetic, AddsTheScaledSumOfChanges) {
  MergeCase merge_case;
  two_experts(merge_case).build();
  expect_merged(merge_case, "task_arithmetic", 1.9, 1.7);
  expect_merged(merge_case, "{method: task_arithmetic, scale: 1}", 4.0, 1.0);
}

TEST(TaskArithmetic, TakesWeightsAndNegation) {
  MergeCase merge_case;
  two_experts(merge_case).weights = {2.0, -1.0};
  merge_case.build();
  expect_merged(merge_case, "{method: task_arithmetic, scale: 0.5}", 1.0, 2.5);
}

TEST(TaskArithmetic, OfCopiesAddsTheirChangeOnceEach) {
  MergeCase merge_case;
  two_experts(merge_case);
  merge_case.experts[1] = merge_case.experts[0];
  merge_case.build();
  expect_merged(merge_case, "{method: task_arithmetic, scale: 0.3}", 1.6, 2.0);
}

TEST(TaskArithmetic, DoesNotReadATaskOfWeightZero) {
  MergeCase merge_case;
  two_experts(merge_case).weights = {1.0, 0.0};
  merge_case.experts[1]["p"].fill_(NAN);
  merge_case.build();
  expect_merged(merge_case, "{method: task_arithmetic, scale: 0.5}", 1.5, 2.0);
}

TEST(TaskArithmetic, NeedsTheBase) {
  MergeCase merge_case;
  two_experts(merge_case).build().base = nullptr;
  EXPECT_THROW(merge_case.merge("task_arithmetic"), InputError);
}

}  // namespace
}  // namespace amalgam
