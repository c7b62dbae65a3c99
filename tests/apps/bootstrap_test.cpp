#include "apps/bootstrap.h"

#include <cmath>

#include "core/random.h"
#include "expect_error.h"

namespace amalgam {
namespace {

using ::testing::HasSubstr;

constexpr double kNormal = 1.959963984540054;  // the quantile 0.975 of the standard normal

/// One target an example; `up` of them only the first row has right, `down` only the second.
PairedTask task_of(int64_t examples, int64_t up, int64_t down, double scale) {
  at::Tensor difference = at::zeros({examples}, at::kDouble);
  difference.slice(0, 0, up).fill_(1);
  difference.slice(0, up, up + down).fill_(-1);
  return {difference, at::ones({examples}, at::kDouble), scale};
}

/// Of the mean of N values drawn with replacement: Σ (d − d̄)² / N².
double variance_of_mean(const at::Tensor& values) {
  const double mean = values.mean().item<double>(), n = static_cast<double>(values.size(0));
  double sum = 0;
  for (int64_t i = 0; i < values.size(0); ++i) sum += std::pow(values[i].item<double>() - mean, 2);
  return sum / (n * n);
}

TEST(Bootstrap, OfEqualRowsIsZero) {
  const auto interval = paired_bootstrap({task_of(50, 0, 0, 0.9), task_of(7, 0, 0, 0.5)}, 3);
  EXPECT_EQ(interval.difference, 0);
  EXPECT_EQ(interval.low, 0);
  EXPECT_EQ(interval.high, 0);
}

TEST(Bootstrap, GivesTheMeanDifferenceOfTheNormalisedAccuracies) {
  const auto interval = paired_bootstrap({task_of(100, 20, 10, 0.8), task_of(40, 2, 6, 0.5)}, 3);
  EXPECT_NEAR(interval.difference, (0.1 / 0.8 - 0.1 / 0.5) / 2, 1e-15);
}

TEST(Bootstrap, IsAsWideAsTheVarianceOfTheMeanSays) {
  for (const int64_t examples : {401, 2000, 10'000}) {
    const std::vector<PairedTask> tasks = {task_of(examples, examples / 7, examples / 11, 0.8),
                                           task_of(2 * examples + 1, examples / 5, examples / 3, 0.5)};
    double variance = 0;
    for (const auto& task : tasks) variance += variance_of_mean(task.difference) / std::pow(2 * task.scale, 2);
    const double width = kNormal * std::sqrt(variance);
    const auto interval = paired_bootstrap(tasks, 5);
    // A percentile of 2000 draws of a normal is uncertain by √(p (1 − p) / 2000) / φ(z), here 0.060 of its deviation;
    // four of these.
    const double slack = 4 * 0.060 / kNormal * width;
    EXPECT_NEAR(interval.low, interval.difference - width, slack) << examples;
    EXPECT_NEAR(interval.high, interval.difference + width, slack) << examples;
  }
}

TEST(Bootstrap, AgreesWithDrawingExampleByExample) {
  // Examples of several targets: a ratio of two sums, drawn together.
  const RandomStream stream(11, "examples");
  const int64_t n = 60, draws = 4000;
  PairedTask task{at::zeros({n}, at::kDouble), at::zeros({n}, at::kDouble), 0.7};
  for (int64_t i = 0; i < n; ++i) {
    const auto count = static_cast<double>(1 + stream.bits(static_cast<uint64_t>(i)) % 3);
    task.count[i] = count;
    task.difference[i] = std::floor(stream.uniform(static_cast<uint64_t>(i), 1) * (count + 1)) - 1;
  }
  std::vector<double> means;
  for (int64_t draw = 0; draw < draws; ++draw) {
    double right = 0, all = 0;
    for (int64_t i = 0; i < n; ++i) {
      const double uniform = stream.uniform(static_cast<uint64_t>(1000 + draw), static_cast<uint64_t>(i));
      const auto taken = static_cast<int64_t>(uniform * static_cast<double>(n));
      right += task.difference[taken].item<double>();
      all += task.count[taken].item<double>();
    }
    means.push_back(right / all / task.scale);
  }
  std::sort(means.begin(), means.end());
  const double low = means[draws / 40], high = means[draws - draws / 40], deviation = (high - low) / (2 * kNormal);
  const auto interval = paired_bootstrap({task}, 1, draws);
  // Both sides draw 4000: √2 times 0.042 of the deviation; four of these.
  EXPECT_NEAR(interval.low, low, 4 * std::sqrt(2) * 0.042 * deviation);
  EXPECT_NEAR(interval.high, high, 4 * std::sqrt(2) * 0.042 * deviation);
}

TEST(Bootstrap, IsTheSameForASeedAndAnotherForAnother) {
  const std::vector<PairedTask> tasks = {task_of(1000, 100, 90, 0.8)};
  const auto first = paired_bootstrap(tasks, 5), again = paired_bootstrap(tasks, 5), other = paired_bootstrap(tasks, 6);
  EXPECT_EQ(first.low, again.low);
  EXPECT_EQ(first.high, again.high);
  EXPECT_TRUE(first.low != other.low || first.high != other.high);
}

TEST(Bootstrap, DoesNotDependOnTheOrderOfTheExamples) {
  auto task = task_of(300, 40, 30, 0.8);
  const auto sorted = paired_bootstrap({task}, 5);
  task.difference = task.difference.flip(0);
  EXPECT_EQ(paired_bootstrap({task}, 5).low, sorted.low);
}

TEST(Bootstrap, RefusesNoTasksAndScalesOfZero) {
  EXPECT_THAT(input_error_of([] { paired_bootstrap({}, 0); }), HasSubstr("at least one task"));
  EXPECT_THAT(input_error_of([] { paired_bootstrap({task_of(4, 1, 0, 0)}, 0); }), HasSubstr("scale above 0"));
}

}  // namespace
}  // namespace amalgam
