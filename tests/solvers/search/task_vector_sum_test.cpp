#include "solvers/search/task_vector_sum.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "expect_error.h"
#include "solvers/probe_case.h"

namespace amalgam {
namespace {

using test::difference;
using test::EntropyCase;
using test::kEps64;
using testing::ElementsAre;
using testing::HasSubstr;

std::unique_ptr<MergeMethod> method(const std::string& entry = "task_arithmetic") {
  return make_method(YAML::Load(entry), "merge");
}

TEST(TaskVectorSum, GroupsByParameterBlockOrModel) {
  EntropyCase model({"a", "b"});
  model.begin();
  EXPECT_THAT(TaskVectorSum(model.input, *method(), "parameter").groups(),
              ElementsAre("net.0.weight", "net.0.bias", "net.1.weight", "scale"));
  EXPECT_THAT(TaskVectorSum(model.input, *method(), "block").groups(), ElementsAre("net.0.", "net.1.", "scale"));
  EXPECT_THAT(TaskVectorSum(model.input, *method(), "model").groups(), ElementsAre("model"));
}

TEST(TaskVectorSum, AddsTheChangesByTheirGroupsCoefficients) {
  EntropyCase model({"a", "b"});
  model.begin();
  const TaskVectorSum sum(model.input, *method(), "block");
  const at::Tensor coefficients = model.random.normal({3, 2});
  const NamedTensors merged = sum.model(coefficients);
  for (const auto& [name, group] : {std::pair{"net.0.weight", 0}, std::pair{"net.0.bias", 0},
                                    std::pair{"net.1.weight", 1}, std::pair{"scale", 2}}) {
    at::Tensor expected = model.base.at(name).clone();
    for (int m = 0; m < 2; ++m)
      expected += coefficients[group][m] * (model.experts[static_cast<size_t>(m)].at(name) - model.base.at(name));
    EXPECT_LE(difference(merged.at(name), expected), 8 * kEps64) << name;
    EXPECT_TRUE(at::equal(merged.at(name), sum.parameter(name, coefficients)));
  }
}

TEST(TaskVectorSum, IsTaskArithmeticWhereCoefficientsAreAlike) {
  EntropyCase model({"a", "b"});
  model.weights = {2.0, -0.5};
  model.begin();
  const TaskVectorSum sum(model.input, *method(), "parameter");
  const NamedTensors merged = sum.model(sum.uniform(0.3)),
                     expected = model.merge("{method: task_arithmetic, scale: 0.3}").merged;
  ASSERT_EQ(merged.size(), expected.size());
  for (const auto& [name, tensor] : expected) EXPECT_LE(difference(merged.at(name), tensor), 8 * kEps64) << name;
}

TEST(TaskVectorSum, AveragesWhatTheMethodLeavesAsideAndKeepsDtypes) {
  EntropyCase model({"a", "b"});
  for (auto* tensors : {&model.base, &model.experts[0], &model.experts[1]}) {
    tensors->at("net.1.weight") = tensors->at("net.1.weight").to(at::kBFloat16);
    (*tensors)["steps"] = at::tensor({7});
  }
  model.begin();
  model.input.buffers = {"running", "steps"};
  const auto selecting = method("{method: task_arithmetic, except: ['scale']}");
  const TaskVectorSum sum(model.input, *selecting, "parameter");
  EXPECT_THAT(sum.parameters(), ElementsAre("net.0.weight", "net.0.bias", "net.1.weight"));
  const NamedTensors merged = sum.model(sum.uniform(0.3));
  for (const char* name : {"scale", "running"})
    EXPECT_LE(difference(merged.at(name), (model.experts[0].at(name) + model.experts[1].at(name)) / 2), 4 * kEps64);
  EXPECT_EQ(merged.at("steps").item<int64_t>(), 7);
  EXPECT_EQ(merged.at("net.1.weight").scalar_type(), at::kBFloat16);
  EXPECT_EQ(sum.parameter("net.1.weight", sum.uniform(0.3)).scalar_type(), at::kFloat);
}

TEST(TaskVectorSum, LeavesOutTasksOfWeightZero) {
  EntropyCase model({"a", "b", "c"});
  model.weights = {1.0, 0.0, 2.0};
  model.begin();
  const TaskVectorSum sum(model.input, *method(), "model");
  EXPECT_THAT(sum.tasks(), ElementsAre("a", "c"));
  EXPECT_TRUE(at::allclose(sum.uniform(0.25), at::tensor({0.25, 0.5}, at::kDouble).unsqueeze(0)));
}

TEST(TaskVectorSum, HasTheSlopesOfFiniteDifferences) {
  for (const std::string& grouping : TaskVectorSum::groupings()) {
    EntropyCase model({"a", "b"});
    model.begin();
    const TaskVectorSum sum(model.input, *method(), grouping);
    const at::Tensor at = sum.uniform(0.4);
    const ProbeBatch batch{"val", 23, 0};
    const auto entropy = [&](const at::Tensor& coefficients) {
      return model.probe->entropy("a", sum.model(coefficients), sum.parameters(), batch, [] {});
    };
    const at::Tensor slopes = sum.slopes(entropy(at).gradient);
    constexpr double kStep = 1e-5;
    for (int64_t g = 0; g < at.size(0); ++g)
      for (int64_t m = 0; m < 2; ++m) {
        at::Tensor higher = at.clone(), lower = at.clone();
        higher[g][m] += kStep;
        lower[g][m] -= kStep;
        const double expected = (entropy(higher).value - entropy(lower).value) / (2 * kStep);
        // The error of the difference: kStep² of the third derivative, and rounding by kStep.
        EXPECT_NEAR(slopes[g][m].item<double>(), expected, 1e-9) << grouping << " " << g << " " << m;
      }
  }
}

TEST(TaskVectorSum, RefusesToSumNothing) {
  EntropyCase model({"a", "b"});
  model.begin();
  const auto nothing = method("{method: task_arithmetic, apply_to: ['encoder.*']}");
  EXPECT_THAT(input_error_of([&] { TaskVectorSum(model.input, *nothing, "model"); }), HasSubstr("no parameter"));
}

}  // namespace
}  // namespace amalgam
