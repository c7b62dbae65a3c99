#include "solvers/search/coefficient_descent.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "expect_error.h"
#include "solvers/probe_case.h"

namespace amalgam {
namespace {

using test::EntropyCase;
using testing::HasSubstr;

class CoefficientDescentOf : public testing::Test {
 protected:
  CoefficientDescentOf() {
    model_.begin();
    vectors_ = std::make_unique<TaskVectorSum>(model_.input, *make_method(YAML::Load("average"), "merge"), "model");
  }
  CoefficientDescent descent(double start, bool clamp) {
    return {model_.input, *vectors_, vectors_->uniform(start), {.steps = 4, .rate = 0.1, .batch = 8}, clamp};
  }

  EntropyCase model_{{"a", "b"}};
  std::unique_ptr<TaskVectorSum> vectors_;
};

TEST_F(CoefficientDescentOf, MovesByTheRateAtFirst) {
  CoefficientDescent free = descent(0.3, false);
  free.step([] {});
  for (int64_t m = 0; m < 2; ++m) EXPECT_NEAR(std::abs(free.coefficients()[0][m].item<double>() - 0.3), 0.1, 1e-5);
}

TEST_F(CoefficientDescentOf, HasNoSlopeBeyondItsBounds) {
  CoefficientDescent bounded = descent(1.5, true);
  while (!bounded.is_done()) bounded.step([] {});
  EXPECT_TRUE(at::equal(bounded.coefficients(), at::ones({1, 2}, at::kDouble)));
  EXPECT_TRUE(at::equal(bounded.state().at("coefficients"), at::full({1, 2}, 1.5, at::kDouble)));
}

TEST_F(CoefficientDescentOf, StaysAsItWasWhereAStateIsOfAnotherSearch) {
  CoefficientDescent descent = this->descent(0.3, false);
  descent.step([] {});
  const at::Tensor before = descent.coefficients().clone();
  NamedTensors state = descent.state();
  state["entropies"] = at::zeros({3}, at::kDouble);
  state["square"] = at::zeros({2, 2}, at::kDouble);
  EXPECT_THAT(input_error_of([&] { descent.resume(state); }), HasSubstr("'square'"));
  EXPECT_EQ(descent.steps_done(), 1);
  EXPECT_TRUE(at::equal(descent.coefficients(), before));
}

}  // namespace
}  // namespace amalgam
