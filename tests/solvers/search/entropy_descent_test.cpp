#include "solvers/search/entropy_descent.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "expect_error.h"
#include "solvers/probe_case.h"

namespace amalgam {
namespace {

using test::difference;
using test::EntropyCase;
using test::kEps64;
using testing::ElementsAre;
using testing::HasSubstr;

/// Goes through a list of entropies, whatever the model; the gradient is of half precision.
class ListedProbe final : public test::SilentProbe {
 public:
  explicit ListedProbe(std::vector<double> values) : values_(std::move(values)) {}
  ProbeEntropy entropy(const std::string& task, const NamedTensors&, const std::vector<std::string>& by,
                       const ProbeBatch& batch, const std::function<void()>&) override {
    ProbeEntropy found{values_.at(batch.number), {}};
    for (const std::string& name : by) found.gradient[name] = at::full({2}, task == "a" ? 1.0 : 2.0 / 1024, at::kHalf);
    return found;
  }

 private:
  std::vector<double> values_;
};

TEST(EntropyDescent, TakesTheMeanOverTheTasksOfPositiveWeight) {
  EntropyCase model({"a", "b", "c", "d"});
  model.weights = {1.0, 0.0, 3.0, -1.0};
  model.begin();
  EntropyDescent descent(model.input, {.steps = 3, .batch = 8, .split = "train"});
  for (uint64_t step = 0; step < 3; ++step) {
    const NamedTensors gradient = descent.next_gradient(model.base, {"net.0.bias"}, [] {});
    const ProbeBatch batch{"train", 8, step};
    const ProbeEntropy a = model.probe->entropy("a", model.base, {"net.0.bias"}, batch, [] {}),
                       c = model.probe->entropy("c", model.base, {"net.0.bias"}, batch, [] {});
    EXPECT_EQ(gradient.size(), 1U);
    EXPECT_LE(difference(gradient.at("net.0.bias"), (a.gradient.at("net.0.bias") + c.gradient.at("net.0.bias")) / 2),
              8 * kEps64);
    EXPECT_NEAR(descent.report().curve.back().value, (a.value + c.value) / 2, 8 * kEps64);
  }
  EXPECT_TRUE(descent.is_done());
  EXPECT_EQ(descent.report().measure, "entropy on train");
  EXPECT_THAT(descent.note(), HasSubstr("entropy"));
}

TEST(EntropyDescent, AddsGradientsOfHalfPrecisionInFloat32) {
  EntropyCase model({"a", "b"});
  model.begin();
  ListedProbe probe({1.0});
  model.input.probe = &probe;
  EntropyDescent descent(model.input, {.steps = 1});
  const at::Tensor gradient = descent.next_gradient({}, {"x"}, [] {}).at("x");
  EXPECT_EQ(gradient.scalar_type(), at::kFloat);
  EXPECT_EQ(gradient[0].item<double>(), 0.5 + 1.0 / 1024);  // 1 + 2/1024 has no half of its own between
}

TEST(EntropyDescent, EndsWhenItsMeanNoLongerFalls) {
  EntropyCase model({"a", "b"});
  model.begin();
  ListedProbe probe({5, 4, 3, 2, 3, 2, 1, 0});
  model.input.probe = &probe;
  EntropyDescent descent(model.input, {.steps = 8, .patience = 2});
  while (!descent.is_done()) descent.next_gradient({}, {}, [] {});
  EXPECT_EQ(descent.steps(), 6);  // 3 + 2 against 3 + 2
  EXPECT_THAT(descent.report().why, HasSubstr("the mean of 2 steps was not below"));
}

TEST(EntropyDescent, GoesOnFromItsCourse) {
  EntropyCase model({"a", "b"});
  model.begin();
  ListedProbe probe({5, 4, 3});
  model.input.probe = &probe;
  EntropyDescent first(model.input, {.steps = 3}), second(model.input, {.steps = 3});
  for (int i = 0; i < 2; ++i) first.next_gradient({}, {}, [] {});
  second.resume({{"entropies", first.course()}});
  EXPECT_EQ(second.steps(), 2);
  second.next_gradient({}, {}, [] {});
  std::vector<double> values;
  for (const SearchPoint& point : second.report().curve) values.push_back(point.value);
  EXPECT_THAT(values, ElementsAre(5, 4, 3));
  EXPECT_THAT(input_error_of([&] { second.resume({}); }), HasSubstr("no entropies"));
}

}  // namespace
}  // namespace amalgam
