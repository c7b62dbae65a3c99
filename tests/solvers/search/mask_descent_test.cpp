#include "solvers/search/mask_descent.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "expect_error.h"
#include "solvers/probe_case.h"
#include "solvers/search/relaxed_mask.h"

namespace amalgam {
namespace {

using test::difference;
using test::EntropyCase;
using test::kEps64;
using testing::HasSubstr;

constexpr DescentOptions kSteps{.steps = 6, .rate = 0.05, .batch = 8};

class MaskDescentOf : public testing::Test {
 protected:
  MaskDescentOf() { model_.begin(); }
  MaskDescent descent() { return {model_.input, model_.parameters, 0.3, kSteps, 0.5}; }
  static void run(MaskDescent& descent) {
    while (!descent.is_done()) descent.step([] {});
  }

  EntropyCase model_{{"a", "b"}};
};

TEST_F(MaskDescentOf, GoesOnFromItsStateToTheSameBits) {
  MaskDescent whole = descent(), first = descent(), second = descent();
  run(whole);
  for (int i = 0; i < 3; ++i) first.step([] {});
  NamedTensors kept;
  for (const auto& [name, tensor] : first.state()) kept[name] = tensor.clone();
  first.step([] {});  // what was kept no longer changes
  second.resume(kept);
  EXPECT_EQ(second.steps_done(), 3);
  run(second);
  for (const bool drawn : {false, true})
    for (const auto& [name, mask] : whole.masks(drawn))
      EXPECT_TRUE(at::equal(mask, second.masks(drawn).at(name))) << name;
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(whole.report().curve[i].value, second.report().curve[i].value);
}

TEST_F(MaskDescentOf, StaysAsItWasWhereAStateIsOfAnotherSearch) {
  MaskDescent descent = this->descent();
  descent.step([] {});
  const NamedTensors before = descent.masks(false);
  NamedTensors state = descent.state();
  state["square/net.1.weight"] = at::zeros({2, 2}, at::kDouble);
  EXPECT_THAT(input_error_of([&] { descent.resume(state); }), HasSubstr("'square/net.1.weight'"));
  state = descent.state();
  state.erase("entropies");
  EXPECT_THAT(input_error_of([&] { descent.resume(state); }), HasSubstr("no entropies"));
  EXPECT_EQ(descent.steps_done(), 1);
  for (const auto& [name, mask] : before) EXPECT_TRUE(at::equal(mask, descent.masks(false).at(name)));
}

TEST_F(MaskDescentOf, ScoresTaskArithmeticWhereEverythingIsKept) {
  MaskDescent descent = this->descent();
  NamedTensors state = descent.state();
  for (auto& [name, tensor] : state)
    if (name != "entropies") tensor = at::full_like(tensor, 1e4);
  descent.resume(state);
  descent.step([] {});
  const NamedTensors merged = model_.merge("{method: task_arithmetic, scale: 0.3}").merged;
  double expected = 0;
  for (const std::string& task : model_.tasks)
    expected += test::entropy_of(merged, model_.probe->inputs(task, {"val", 8, 0})).item<double>() / 2;
  EXPECT_NEAR(descent.report().curve[0].value, expected, 64 * kEps64);
  for (const auto& [name, mask] : descent.masks(true)) EXPECT_TRUE(at::equal(mask, at::ones_like(mask))) << name;
}

TEST_F(MaskDescentOf, DrawsWithTheNextStepsNumbers) {
  MaskDescent descent = this->descent();
  run(descent);
  const NamedTensors state = descent.state();
  for (const auto& [name, mask] : descent.masks(true)) {
    const at::Tensor& logits = state.at("logits/" + name);
    const at::Tensor draw = relaxed_mask(logits, mask_draws(model_.input.seed, name, 6, logits), 0.5);
    EXPECT_TRUE(at::equal(mask, draw / draw.mean())) << name;
    EXPECT_NEAR(mask.mean().item<double>(), 1, 8 * kEps64);
  }
}

}  // namespace
}  // namespace amalgam
