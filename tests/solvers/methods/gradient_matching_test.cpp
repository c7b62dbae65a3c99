#include "solvers/methods/gradient_matching.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "expect_error.h"
#include "solvers/merge_case.h"

namespace amalgam {
namespace {

using test::difference;
using test::kEps64;
using test::MergeCase;
using testing::HasSubstr;
using testing::IsEmpty;

struct Setting {
  double prior = 1e-12, floor = 1e-8;
  bool uniform = false;
};

struct GradientMatchingCase : testing::Test {
  MergeCase merge_case;

  void draw(const std::vector<std::string>& tasks) {
    merge_case.parameter("p", {4, 5});
    merge_case.draw(tasks);
  }
  /// Statistics of the base: squared gradients summed over so many examples.
  void give_base(const NamedTensors& squares, int64_t examples) {
    StatisticsHeader header;
    header.task = "base";
    header.ranges = {{0, examples}};
    header.kinds = {StatisticKind::kSquaredGradient};
    NamedTensors sums;
    for (const auto& [name, tensor] : squares) sums[name + "/squared_gradient"] = tensor;
    base_squares = squares;
    base_examples = examples;
    base_statistics = std::make_unique<Statistics>(header, std::make_shared<MemoryTensors>(sums));
    merge_case.input.base_statistics = base_statistics.get();
  }

  /// θ0 + Σ α H̄⁻¹ (H_0 + H_m) (θ_m − θ0), one element at a time, by the definitions.
  at::Tensor naive(const Setting& setting) const {
    const at::Tensor result = merge_case.base.at("p").clone();
    const auto element = [](const at::Tensor& tensor, int64_t i) { return tensor.flatten()[i].item<double>(); };
    for (int64_t i = 0; i < result.numel(); ++i) {
      double of_base = setting.prior;
      if (base_squares.contains("p"))
        of_base += element(base_squares.at("p"), i) / (setting.uniform ? static_cast<double>(base_examples) : 1.0);
      std::vector<double> curvatures;
      double total = of_base;
      for (size_t m = 0; m < merge_case.experts.size(); ++m) {
        const at::Tensor& squares = merge_case.squared_gradients[m].at("p");
        const double sum = std::max(element(squares, i), setting.floor * squares.mean().item<double>());
        curvatures.push_back(setting.uniform ? sum / MergeCase::kExamples : sum);
        total += merge_case.weights[m] * curvatures.back();
      }
      double change = 0;
      for (size_t m = 0; m < curvatures.size(); ++m)
        change += merge_case.weights[m] * (of_base + curvatures[m]) / total *
                  (element(merge_case.experts[m].at("p"), i) - element(merge_case.base.at("p"), i));
      result.view({-1})[i] += change;
    }
    return result;
  }
  void expect_naive(const std::string& options, const Setting& setting) {
    SCOPED_TRACE(options);
    const auto merged = merge_case.merge("{method: gradient_matching" + options + "}").merged.at("p");
    EXPECT_LE(difference(merged, naive(setting)), 32 * kEps64 * naive(setting).abs().max().item<double>());
  }

  NamedTensors base_squares;
  int64_t base_examples = 0;
  std::unique_ptr<Statistics> base_statistics;
};

TEST_F(GradientMatchingCase, IsTheFormulaElementByElement) {
  draw({"a", "b", "c"});
  merge_case.weights = {1.0, 0.3, 2.0};
  merge_case.build();
  expect_naive("", {});
  expect_naive(", prior: 3, floor: 0", {3, 0});
  expect_naive(", prior: 0.5, counts: uniform", {0.5, 1e-8, true});
  expect_naive(", floor: 0.5", {1e-12, 0.5});
}

TEST_F(GradientMatchingCase, CountsTheStatisticsOfTheBase) {
  draw({"a", "b"});
  merge_case.build();
  give_base({{"p", merge_case.random.normal({4, 5}).square() * 40}}, 40);
  expect_naive("", {});
  expect_naive(", prior: 2", {2});
  expect_naive(", counts: uniform", {1e-12, 1e-8, true});
  const auto with = merge_case.merge("gradient_matching");
  EXPECT_THAT(with.report.layers, IsEmpty());
  merge_case.input.base_statistics = nullptr;
  EXPECT_GT(difference(with.merged.at("p"), merge_case.merge("gradient_matching").merged.at("p")), 1e-3);
}

TEST_F(GradientMatchingCase, OfOneTaskIsItsExpert) {
  draw({"a"});
  merge_case.build();
  for (const char* options : {"gradient_matching", "{method: gradient_matching, prior: 5}"})
    EXPECT_LE(difference(merge_case.merge(options).merged.at("p"), merge_case.experts[0].at("p")), 16 * kEps64);
}

TEST_F(GradientMatchingCase, OfOneTaskOfAnyWeightIsItsExpertWithoutAPrior) {
  draw({"a"});
  merge_case.weights = {0.3};
  merge_case.build();
  const auto distance = [&](const char* prior) {
    const auto merged = merge_case.merge(fmt::format("{{method: gradient_matching, prior: {}}}", prior));
    return difference(merged.merged.at("p"), merge_case.experts[0].at("p"));
  };
  EXPECT_LE(distance("0"), 16 * kEps64);
  EXPECT_LE(distance("1e-9"), 1e-6);
  EXPECT_GT(distance("1e3"), 1e-2);
}

TEST_F(GradientMatchingCase, OfCopiesOfOneExpertIsThatExpertWithoutAPrior) {
  draw({"a", "b", "c"});
  for (auto& expert : merge_case.experts) expert = merge_case.experts[0];
  merge_case.weights = {1.0, 0.3, 2.0};
  merge_case.build();
  const auto merged = merge_case.merge("{method: gradient_matching, prior: 0}").merged.at("p");
  EXPECT_LE(difference(merged, merge_case.experts[0].at("p")), 16 * kEps64);
}

TEST_F(GradientMatchingCase, AddsTheChangesWhereThePriorRules) {
  draw({"a", "b"});
  merge_case.weights = {0.5, 0.25};
  merge_case.build();
  const auto merged = merge_case.merge("{method: gradient_matching, prior: 1e12}").merged.at("p");
  const auto arithmetic = merge_case.merge("{method: task_arithmetic, scale: 1}").merged.at("p");
  EXPECT_LE(difference(merged, arithmetic), 1e-9);
}

TEST_F(GradientMatchingCase, IsFisherWithoutAPrior) {
  draw({"a", "b", "c"});
  merge_case.weights = {1.0, 0.3, 2.0};
  merge_case.build();
  EXPECT_LE(difference(merge_case.merge("{method: gradient_matching, prior: 0}").merged.at("p"),
                       merge_case.merge("fisher").merged.at("p")),
            32 * kEps64);
}

TEST_F(GradientMatchingCase, TakesTheMeanOfAnElementThatNoTaskHasMoved) {
  draw({"a", "b"});
  for (auto& squares : merge_case.squared_gradients) {
    squares.at("p").fill_(4.0);
    squares.at("p")[0][0] = 0.0;
  }
  merge_case.build();
  const auto mean = 0.5 * (merge_case.experts[0].at("p") + merge_case.experts[1].at("p"));
  EXPECT_LE(difference(merge_case.merge("gradient_matching").merged.at("p"), mean),
            1e-4);  // prior : floor 1e-12 : 3e-8
  const auto zero = merge_case.merge("{method: gradient_matching, prior: 0, floor: 0}").merged.at("p");
  EXPECT_LE(difference(zero, mean), 16 * kEps64);
}

TEST_F(GradientMatchingCase, AveragesAndReportsWhatNoTaskKnows) {
  draw({"a", "b"});
  for (auto& squares : merge_case.squared_gradients) squares.at("p").zero_();
  merge_case.weights = {1.0, 3.0};
  merge_case.build();
  const auto outcome = merge_case.merge("gradient_matching");
  const auto mean = 0.25 * merge_case.experts[0].at("p") + 0.75 * merge_case.experts[1].at("p");
  EXPECT_LE(difference(outcome.merged.at("p"), mean), 8 * kEps64);
  ASSERT_EQ(outcome.report.layers.size(), 1);
  EXPECT_THAT(outcome.report.layers[0].why, HasSubstr("no task has any information"));
}

TEST_F(GradientMatchingCase, ReportsWhereTheBaseHasNoStatistic) {
  draw({"a", "b"});
  merge_case.build();
  give_base({{"other", at::ones({2}, at::kDouble)}}, 40);
  const auto outcome = merge_case.merge("gradient_matching");
  ASSERT_EQ(outcome.report.layers.size(), 1);
  EXPECT_THAT(outcome.report.layers[0].why, HasSubstr("the statistics of the base"));
  EXPECT_LE(difference(outcome.merged.at("p"), naive({})), 32 * kEps64 * 4);
}

TEST_F(GradientMatchingCase, RefusesBaseStatisticsOfAnotherShape) {
  draw({"a", "b"});
  merge_case.build();
  give_base({{"p", at::ones({5, 4}, at::kDouble)}}, 40);
  EXPECT_THAT(input_error_of([&] { merge_case.merge("gradient_matching"); }),
              testing::AllOf(HasSubstr("the base"), HasSubstr("p/squared_gradient")));
}

TEST_F(GradientMatchingCase, NeedsTheBase) {
  draw({"a", "b"});
  merge_case.build().base = nullptr;
  EXPECT_THAT(input_error_of([&] { merge_case.merge("gradient_matching"); }), HasSubstr("base.model"));
}

}  // namespace
}  // namespace amalgam
