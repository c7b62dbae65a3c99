#include "solvers/methods/adamerging.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/optim.h>

#include "core/error.h"
#include "expect_error.h"
#include "solvers/interrupting_progress.h"
#include "solvers/probe_case.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

using test::difference;
using test::entropy_of;
using test::EntropyCase;
using test::kEps64;
using testing::ElementsAre;
using testing::HasSubstr;

/// The method as its authors' code does it: autograd through the merge, LibTorch's Adam.
NamedTensors naive(const EntropyCase& model, bool by_parameter, int steps, double rate, double start, bool clamp) {
  const at::AutoGradMode with_gradients(true);
  const auto tasks = static_cast<int64_t>(model.tasks.size());
  at::Tensor raw =
      at::full({by_parameter ? static_cast<int64_t>(model.parameters.size()) : 1, tasks}, start, at::kDouble)
          .requires_grad_();
  torch::optim::Adam optimiser({raw}, torch::optim::AdamOptions(rate));
  const auto merge = [&] {
    const at::Tensor used = clamp ? raw.clamp(0, 1) : raw;
    NamedTensors merged;
    for (size_t p = 0; p < model.parameters.size(); ++p) {
      const std::string& name = model.parameters[p];
      at::Tensor sum = model.base.at(name);
      for (int64_t m = 0; m < tasks; ++m)
        sum = sum + used[by_parameter ? static_cast<int64_t>(p) : 0][m] *
                        (model.experts[static_cast<size_t>(m)].at(name) - model.base.at(name));
      merged[name] = sum;
    }
    return merged;
  };
  for (int step = 0; step < steps; ++step) {
    optimiser.zero_grad();
    const NamedTensors merged = merge();
    at::Tensor loss = at::zeros({}, at::kDouble);
    for (const std::string& task : model.tasks)
      loss = loss + entropy_of(merged, model.probe->inputs(task, {"val", 8, static_cast<uint64_t>(step)}));
    (loss / static_cast<double>(tasks)).backward();
    optimiser.step();
  }
  return merge();
}

void expect_close(const NamedTensors& merged, const NamedTensors& expected, double tolerance) {
  for (const auto& [name, tensor] : expected)
    EXPECT_LE(difference(merged.at(name), tensor.detach()), tolerance) << name;
}

TEST(AdaMerging, GoesTheWayOfAutogradThroughTheMerge) {
  for (const std::string grouping : {"parameter", "model"})
    for (const bool clamp : {true, false}) {
      EntropyCase model({"a", "b", "c"});
      model.begin();
      const auto merged = model.merge(fmt::format(
          "{{method: adamerging, coefficients: {}, steps: 60, rate: 0.02, batch: 8, start: 0.9, clamp: {}}}", grouping,
          clamp));
      // 60 steps: rounding grows by Adam's division by small slopes.
      expect_close(merged.merged, naive(model, grouping == "parameter", 60, 0.02, 0.9, clamp), 1e-9);
      ASSERT_TRUE(merged.report.search);
      EXPECT_EQ(merged.report.search->curve.size(), 60U);
      EXPECT_EQ(merged.report.search->val_looks, 0);
      EXPECT_EQ(merged.report.search->measure, "entropy on val");
      double highest = 0;
      for (const auto& row : merged.report.search->coefficients)
        for (const double value : row) highest = std::max(highest, value);
      if (clamp) {
        EXPECT_LE(highest, 1.0);
      }
    }
}

TEST(AdaMerging, IsTaskArithmeticBeforeItsFirstStep) {
  EntropyCase model({"a", "b"});
  model.begin();
  expect_close(model.merge("{method: adamerging, steps: 0}").merged,
               model.merge("{method: task_arithmetic, scale: 0.3}").merged, 8 * kEps64);
  EXPECT_TRUE(model.probe->calls.empty());
}

TEST(AdaMerging, ByTaskIsByParameterWhereThereIsOne) {
  EntropyCase model({"a", "b"});
  model.begin();
  const std::string rest = "apply_to: [net.0.weight], steps: 25, rate: 0.05, batch: 8}";
  const auto by_task = model.merge("{method: adamerging, coefficients: model, " + rest);
  const auto by_parameter = model.merge("{method: adamerging, coefficients: parameter, " + rest);
  for (const auto& [name, tensor] : by_task.merged)
    EXPECT_TRUE(at::equal(tensor, by_parameter.merged.at(name))) << name;
  EXPECT_EQ(by_task.report.search->coefficients, by_parameter.report.search->coefficients);
}

TEST(AdaMerging, LowersTheCoefficientOfAnExpertThatBlursAndRaisesThatOfOneThatIsSure) {
  EntropyCase model({"sure", "blurred"});
  for (const std::string& name : model.parameters) {
    const at::Tensor& base = model.base.at(name);
    model.experts[0][name] = name == "net.1.weight" ? 1.5 * base : base.clone();
    model.experts[1][name] = (name == "net.1.weight" ? 0.3 * base : base) + 0.02 * model.random.normal(base.sizes());
  }
  model.begin();
  const auto merged = model.merge("{method: adamerging, coefficients: model, steps: 100, rate: 0.01, batch: 23}");
  const auto& coefficients = merged.report.search->coefficients[0];
  EXPECT_GT(coefficients[0], 0.8);
  EXPECT_LT(coefficients[1], 0.05);
  EXPECT_LT(merged.report.search->curve.back().value, merged.report.search->curve.front().value);
}

TEST(AdaMerging, DoesNotLookAtTheExamplesOfATaskOfWeightZero) {
  EntropyCase model({"a", "b", "c"});
  model.weights = {1.0, 0.0, 2.0};
  model.begin();
  const auto merged = model.merge("{method: adamerging, coefficients: model, steps: 3, batch: 8, split: test}");
  EXPECT_THAT(merged.report.search->tasks, ElementsAre("a", "c"));
  EXPECT_EQ(model.probe->calls.size(), 6U);
  for (size_t i = 0; i < model.probe->calls.size(); ++i) {
    EXPECT_EQ(model.probe->calls[i].task, i % 2 == 0 ? "a" : "c");
    EXPECT_EQ(model.probe->calls[i].batch.split, "test");
    EXPECT_EQ(model.probe->calls[i].batch.examples, 8);
    EXPECT_EQ(model.probe->calls[i].batch.number, i / 2);
  }
}

TEST(AdaMerging, RefusesAStartThatItCouldNotLeave) {
  EntropyCase model({"a", "b"});
  model.weights = {1.0, 4.0};
  model.begin();
  EXPECT_THAT(input_error_of([&] { model.merge("adamerging"); }), HasSubstr("task 'b' would start at 1.2"));
  EXPECT_THAT(input_error_of([&] { model.merge("{method: adamerging, start: -0.1}"); }), HasSubstr("task 'a'"));
  EXPECT_TRUE(model.probe->calls.empty());
  for (const std::string entry : {"{method: adamerging, clamp: false, steps: 1, batch: 8}",
                                  "{method: adamerging, start: 0.25, steps: 1, batch: 8}"})
    EXPECT_NO_THROW(model.merge(entry)) << entry;
}

TEST(AdaMerging, EndsWhenTheEntropyNoLongerFalls) {
  EntropyCase model({"a", "b"});
  model.begin();
  // Between the bounds there is nowhere to go after a while.
  const auto merged =
      model.merge("{method: adamerging, coefficients: model, steps: 2000, rate: 0.05, batch: 23, patience: 10}");
  EXPECT_LT(merged.report.search->curve.size(), 1000U);
  EXPECT_THAT(merged.report.search->why, HasSubstr("the mean of 10 steps was not below"));
}

TEST(AdaMerging, GoesOnWhereItWasStoppedToTheSameBits) {
  EntropyCase model({"a", "b"});
  model.begin();
  const auto method = [] {
    return make_method(YAML::Load("{method: adamerging, steps: 30, rate: 0.02, batch: 8}"), "merge");
  };
  SilentProgress silent;
  const auto whole = merge(*method(), model.input, silent);
  const TemporaryFolder folder;
  MergeArrangement arrangement;
  arrangement.search_folder = folder.path();
  for (const int64_t update : {20, 30}) {  // in the midst of steps, and between two
    test::InterruptingProgress interrupting(update);
    EXPECT_THROW(merge(*method(), model.input, interrupting, arrangement), Interrupted);
  }
  model.probe->calls.clear();
  const auto resumed = merge(*method(), model.input, silent, arrangement);
  EXPECT_LT(model.probe->calls.size(), 40U);  // of 60
  for (const auto& [name, tensor] : whole.merged) EXPECT_TRUE(at::equal(tensor, resumed.merged.at(name))) << name;
  EXPECT_EQ(whole.report.search->coefficients, resumed.report.search->coefficients);
  for (size_t i = 0; i < 30; ++i)
    EXPECT_EQ(whole.report.search->curve[i].value, resumed.report.search->curve[i].value) << i;
}

TEST(AdaMerging, NeedsABaseAndSomethingToRunTheModelsWith) {
  EntropyCase model({"a", "b"});
  model.begin();
  model.input.probe = nullptr;
  EXPECT_THAT(input_error_of([&] { model.merge("adamerging"); }), HasSubstr("runs the models"));
  model.input.base = nullptr;
  EXPECT_THAT(input_error_of([&] { model.merge("adamerging"); }), HasSubstr("needs the base"));
}

TEST(AdaMerging, IsNoStartAndNoInnerMethod) {
  EXPECT_THAT(input_error_of([] { make_method(YAML::Load("{method: mats, init: adamerging}"), "merge"); }),
              HasSubstr("runs the models"));
  EXPECT_THAT(input_error_of([] { make_method(YAML::Load("{method: dare, inner: adamerging}"), "merge"); }),
              HasSubstr("runs the models"));
}

}  // namespace
}  // namespace amalgam
