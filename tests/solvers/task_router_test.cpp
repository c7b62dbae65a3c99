#include "solvers/task_router.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "expect_error.h"
#include "solvers/random_matrices.h"

namespace amalgam {
namespace {

using ::testing::HasSubstr;

/// Examples of tasks whose features lie around means of their own.
struct Examples {
  at::Tensor features, task;
};

Examples clouds(int64_t tasks, int64_t each, int64_t features, double apart) {
  test::RandomMatrices random(3);
  const at::Tensor means = random.normal({tasks, features}) * apart;
  const at::Tensor task = at::arange(tasks, at::kLong).repeat_interleave(each);
  return {means.index_select(0, task) + random.normal({tasks * each, features}), task};
}

/// The gradient of the objective by W and b, one example at a time, by its formula.
std::pair<at::Tensor, at::Tensor> naive_gradient(const TaskRouter& router, const Examples& examples, double penalty) {
  const int64_t count = examples.features.size(0), tasks = router.bias.size(0), width = examples.features.size(1);
  at::Tensor weight = router.weight * penalty, bias = at::zeros({tasks}, at::kDouble);
  for (int64_t n = 0; n < count; ++n) {
    std::vector<double> z(static_cast<size_t>(width)), shares(static_cast<size_t>(tasks));
    for (int64_t i = 0; i < width; ++i)
      z[static_cast<size_t>(i)] =
          (examples.features[n][i].item<double>() - router.mean[i].item<double>()) / router.deviation[i].item<double>();
    double total = 0;
    for (int64_t m = 0; m < tasks; ++m) {
      double logit = router.bias[m].item<double>();
      for (int64_t i = 0; i < width; ++i) logit += router.weight[m][i].item<double>() * z[static_cast<size_t>(i)];
      total += shares[static_cast<size_t>(m)] = std::exp(logit);
    }
    for (int64_t m = 0; m < tasks; ++m) {
      const double error = shares[static_cast<size_t>(m)] / total - (examples.task[n].item<int64_t>() == m ? 1.0 : 0.0);
      bias[m] += error / static_cast<double>(count);
      for (int64_t i = 0; i < width; ++i)
        weight[m][i] += error * z[static_cast<size_t>(i)] / static_cast<double>(count);
    }
  }
  return {weight, bias};
}

double largest(const at::Tensor& tensor) { return tensor.abs().max().item<double>(); }

TEST(TaskRouter, IsWhereTheGradientVanishes) {
  const Examples examples = clouds(3, 11, 5, 1.0);
  const TaskRouter router = fit_task_router(examples.features, examples.task, 3, {.penalty = 0.05});
  const auto [weight, bias] = naive_gradient(router, examples, 0.05);
  EXPECT_LT(largest(weight), 1e-6);
  EXPECT_LT(largest(bias), 1e-6);
  EXPECT_LT(std::abs(router.bias.sum().item<double>()), 1e-12);
  EXPECT_LT(largest(router.weight.sum(0)), 1e-5);  // W is smallest where its rows add up to zero
}

TEST(TaskRouter, TellsTasksApartThatAreFarApart) {
  const Examples examples = clouds(4, 30, 6, 8.0);
  const TaskRouter router = fit_task_router(examples.features, examples.task, 4);
  const Examples fresh = {examples.features + 0.5, examples.task};
  EXPECT_TRUE(at::equal(router.shares(fresh.features).argmax(1), fresh.task));
  EXPECT_LT(largest(router.shares(examples.features).sum(1) - 1), 1e-12);
}

TEST(TaskRouter, OfTwoTasksIsTheLogisticRegressionOfOneAgainstTheOther) {
  // At ±1 once each and the other way once in four: σ(2 w z) = 3/4 but for the penalty.
  const at::Tensor features = at::tensor({1., 1., 1., 1., -1., -1., -1., -1.}, at::kDouble).unsqueeze(1);
  const at::Tensor task = at::tensor({0, 0, 0, 1, 1, 1, 1, 0}, at::kLong);
  const TaskRouter router = fit_task_router(features, task, 2, {.penalty = 1e-9});
  EXPECT_NEAR(router.shares(features)[0][0].item<double>(), 0.75, 1e-6);
  EXPECT_NEAR(router.weight[0][0].item<double>(), std::log(3.0) / 2, 1e-6);
  EXPECT_NEAR(router.bias[0].item<double>(), 0, 1e-9);
}

TEST(TaskRouter, DoesNotDependOnTheFeaturesScaleNorOnThoseThatNeverChange) {
  const Examples examples = clouds(3, 9, 4, 1.0);
  const TaskRouter plain = fit_task_router(examples.features, examples.task, 3);
  const at::Tensor other = at::cat({examples.features * 1e3 - 7, at::full({27, 1}, 0.1, at::kDouble)}, 1);
  const TaskRouter scaled = fit_task_router(other, examples.task, 3);
  EXPECT_LT(largest(plain.shares(examples.features) - scaled.shares(other)), 1e-6);
  EXPECT_EQ(largest(scaled.weight.select(1, 4)), 0);
}

TEST(TaskRouter, OfEqualExamplesHasEqualBits) {
  const Examples examples = clouds(3, 9, 4, 1.0);
  EXPECT_TRUE(at::equal(fit_task_router(examples.features, examples.task, 3).weight,
                        fit_task_router(examples.features, examples.task, 3).weight));
}

TEST(TaskRouter, RefusesOutputsThatAreNotFinite) {
  Examples examples = clouds(2, 4, 3, 1.0);
  examples.features[1][2] = std::nan("");
  EXPECT_THAT(input_error_of([&] { fit_task_router(examples.features, examples.task, 2); }), HasSubstr("not finite"));
}

}  // namespace
}  // namespace amalgam
