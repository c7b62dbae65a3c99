#include "solvers/methods/fisher.h"

#include <gtest/gtest.h>

#include "solvers/merge_case.h"

namespace amalgam {
namespace {

using test::MergeCase;

struct FisherCase : testing::Test {
  MergeCase merge_case;
  FisherCase() {
    merge_case.parameter("p", {3});
    merge_case.draw({"a", "b"});
    merge_case.experts[0]["p"] = at::tensor({1.0, 2.0, 3.0}, at::kDouble);
    merge_case.experts[1]["p"] = at::tensor({5.0, 4.0, 5.0}, at::kDouble);
  }
  /// Sets F (means over examples) of both experts.
  void set_fisher(const std::vector<double>& first, const std::vector<double>& second) {
    merge_case.squared_gradients[0]["p"] = at::tensor(first, at::kDouble) * MergeCase::kExamples;
    merge_case.squared_gradients[1]["p"] = at::tensor(second, at::kDouble) * MergeCase::kExamples;
  }
  void expect_merged(const std::string& entry, const std::vector<double>& expected, double tolerance = 1e-14) {
    EXPECT_LE(test::difference(merge_case.merge(entry).merged.at("p"), at::tensor(expected, at::kDouble)), tolerance);
  }
};

TEST_F(FisherCase, WeighsEachElementByItsInformation) {
  set_fisher({3.0, 1.0, 1.0}, {1.0, 1.0, 3.0});
  merge_case.build();
  expect_merged("fisher", {2.0, 3.0, 4.5});
}

TEST_F(FisherCase, TakesTaskWeights) {
  set_fisher({3.0, 1.0, 1.0}, {1.0, 1.0, 3.0});
  merge_case.weights = {1.0, 3.0};
  merge_case.build();
  expect_merged("fisher", {3.0, 3.5, 4.8});
}

TEST_F(FisherCase, FloorsTheInformationRelativeToItsMean) {
  set_fisher({0.0, 3.0, 3.0}, {2.0, 8.0, 8.0});  // means 2 and 6
  merge_case.build();
  expect_merged("fisher", {5.0, 38.0 / 11, 49.0 / 11}, 1e-6);
  expect_merged("{method: fisher, floor: 1}", {(2 * 1.0 + 6 * 5.0) / 8, 38.0 / 11, 49.0 / 11});
}

TEST_F(FisherCase, KeepsTheOtherExpertsValueWhereOneHasNoInformation) {
  set_fisher({0.0, 1.0, 2.0}, {9.0, 0.0, 0.0});
  merge_case.build();
  expect_merged("{method: fisher, floor: 0}", {5.0, 2.0, 3.0});
  expect_merged("fisher", {5.0, 2.0, 3.0}, 1e-6);
}

TEST_F(FisherCase, AveragesWhatNoExpertHasInformationOf) {
  set_fisher({0.0, 0.0, 0.0}, {0.0, 0.0, 0.0});
  merge_case.build();
  expect_merged("fisher", {3.0, 3.0, 4.0});
}

TEST_F(FisherCase, ReportsWhatNoExpertHasInformationOf) {
  set_fisher({0.0, 0.0, 0.0}, {0.0, 0.0, 0.0});
  merge_case.build();
  const MergeReport report = merge_case.merge("fisher").report;
  ASSERT_EQ(report.layers.size(), 1);
  EXPECT_EQ(report.layers[0].layer, "p");
  EXPECT_TRUE(report.layers[0].converged);
  EXPECT_NE(report.layers[0].why.find("no task has any information"), std::string::npos);
}

TEST_F(FisherCase, ReportsNothingWhereSomeExpertHasInformation) {
  set_fisher({0.0, 0.0, 0.0}, {0.0, 1.0, 0.0});
  merge_case.build();
  EXPECT_TRUE(merge_case.merge("fisher").report.layers.empty());
}

TEST_F(FisherCase, OfCopiesOfOneExpertIsThatExpert) {
  merge_case.experts[1] = merge_case.experts[0];
  merge_case.weights = {0.3, 1.7};
  merge_case.build();
  EXPECT_TRUE(at::equal(merge_case.merge("fisher").merged.at("p"), merge_case.experts[0]["p"]));
}

TEST_F(FisherCase, AveragesAParameterWithoutSquaredGradient) {
  merge_case.left_out = {"p/squared_gradient"};
  merge_case.build();
  const MergeOutcome outcome = merge_case.merge("fisher");
  EXPECT_LE(test::difference(outcome.merged.at("p"), at::tensor({3.0, 3.0, 4.0}, at::kDouble)), 1e-14);
  ASSERT_EQ(outcome.report.fallbacks.size(), 1);
  EXPECT_EQ(outcome.report.fallbacks[0].parameter, "p");
  EXPECT_NE(outcome.report.fallbacks[0].why.find("task 'a'"), std::string::npos);
  EXPECT_EQ(outcome.report.merged_parameters, 0);
}

}  // namespace
}  // namespace amalgam
