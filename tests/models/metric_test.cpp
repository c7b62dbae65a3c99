#include "models/metric.h"

#include <cmath>
#include <limits>
#include <vector>

#include "core/random.h"
#include "expect_error.h"

namespace amalgam {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr double kEpsilon = std::numeric_limits<double>::epsilon();

/// The metric of all examples, summed over batches.
double measure(const std::string& name, const at::Tensor& output, const at::Tensor& target, const LossSpec& loss = {},
               int64_t batch = 5) {
  const Metric& metric = fitting_metric(name, loss);
  at::Tensor sums = at::zeros({}, at::kDouble);
  double count = 0;
  for (int64_t begin = 0; begin < output.size(0); begin += batch) {
    const at::Tensor f = output.slice(0, begin, begin + batch), y = target.slice(0, begin, begin + batch);
    sums = sums + metric.sums(loss.kind(), f, y);
    count += static_cast<double>(target_counts(loss, y).sum().item<int64_t>());
  }
  return metric.value(sums, count);
}

/// Outputs [n, classes] whose largest one is the class.
at::Tensor telling(const std::vector<int64_t>& classes, int64_t number) {
  return at::one_hot(at::tensor(classes, at::kLong), number).to(at::kFloat);
}

at::Tensor labels(const std::vector<int64_t>& classes) { return at::tensor(classes, at::kLong); }

at::Tensor normal(at::IntArrayRef shape, uint64_t seed) {
  return at::randn(shape, RandomStream(seed, "metric").generator(), at::kDouble);
}

struct Case {
  at::Tensor output, target;
};

/// Outputs that are right more often than by chance; each seventh target does not count.
Case random_case(int64_t examples, int64_t classes) {
  auto generator = RandomStream(static_cast<uint64_t>(examples * 100 + classes), "case").generator();
  Case made{at::randn({examples, classes}, generator), at::randint(classes, {examples}, generator, at::kLong)};
  made.output += at::one_hot(made.target, classes);
  made.target.masked_fill_(at::arange(examples).remainder(7).eq(3), -100);
  return made;
}

/// [target][output], by a loop over the examples.
std::vector<std::vector<double>> confusion(const Case& data) {
  const auto classes = static_cast<size_t>(data.output.size(1));
  std::vector<std::vector<double>> counts(classes, std::vector<double>(classes, 0));
  for (int64_t n = 0; n < data.output.size(0); ++n) {
    const auto wanted = data.target[n].item<int64_t>();
    if (wanted < 0) continue;
    int64_t best = 0;
    for (int64_t c = 1; c < data.output.size(1); ++c)
      if (data.output[n][c].item<double>() > data.output[n][best].item<double>()) best = c;
    ++counts[static_cast<size_t>(wanted)][static_cast<size_t>(best)];
  }
  return counts;
}

/// 2 P R / (P + R) from precision and recall, or NaN where the class does not occur.
double naive_f1(const std::vector<std::vector<double>>& counts, size_t k) {
  double found = 0, wanted = 0;
  for (size_t c = 0; c < counts.size(); ++c) {
    found += counts[c][k];
    wanted += counts[k][c];
  }
  if (found + wanted == 0) return std::nan("");
  if (counts[k][k] == 0) return 0;
  const double precision = counts[k][k] / found, recall = counts[k][k] / wanted;
  return 2 * precision * recall / (precision + recall);
}

/// Gorodkin's triple sum over the confusion matrix C: Σ_klm (C_kk C_lm − C_kl C_mk) over the root of both spreads.
double naive_matthews(const std::vector<std::vector<double>>& counts) {
  const size_t n = counts.size();
  double covariance = 0, outputs = 0, targets = 0;
  for (size_t k = 0; k < n; ++k) {
    double row = 0, column = 0, other_rows = 0, other_columns = 0;
    for (size_t l = 0; l < n; ++l) {
      row += counts[k][l];
      column += counts[l][k];
      for (size_t m = 0; m < n; ++m) {
        covariance += counts[k][k] * counts[l][m] - counts[k][l] * counts[m][k];
        if (l != k) other_rows += counts[l][m];
        if (l != k) other_columns += counts[m][l];
      }
    }
    targets += row * other_rows;
    outputs += column * other_columns;
  }
  return covariance / std::sqrt(outputs) / std::sqrt(targets);
}

/// The correlation of two columns, means first.
double naive_correlation(const at::Tensor& f, const at::Tensor& y) {
  const int64_t n = f.size(0);
  double mean_f = 0, mean_y = 0, ff = 0, yy = 0, fy = 0;
  for (int64_t i = 0; i < n; ++i) {
    mean_f += f[i].item<double>() / static_cast<double>(n);
    mean_y += y[i].item<double>() / static_cast<double>(n);
  }
  for (int64_t i = 0; i < n; ++i) {
    const double a = f[i].item<double>() - mean_f, b = y[i].item<double>() - mean_y;
    ff += a * a;
    yy += b * b;
    fy += a * b;
  }
  return fy / std::sqrt(ff * yy);
}

TEST(Metric, IsOneForPerfectOutputs) {
  const std::vector<int64_t> classes = {0, 1, 1, 0, 1, 0, 0};
  for (const std::string name : {"accuracy", "f1", "macro_f1", "matthews"})
    EXPECT_EQ(measure(name, telling(classes, 2), labels(classes)), 1) << name;
  EXPECT_EQ(measure("perplexity", 1e4 * telling(classes, 2), labels(classes)), 1);
  const at::Tensor values = normal({9, 2}, 1);
  EXPECT_EQ(measure("r_squared", values, values, "mean_squared_error"), 1);
  EXPECT_NEAR(measure("pearson", 3 * values + 1, values, "mean_squared_error"), 1, 16 * kEpsilon);
}

TEST(Metric, OfAConstantPredictionIsWhatTheDefinitionSays) {
  const at::Tensor target = labels({0, 0, 0, 1});
  EXPECT_EQ(measure("f1", telling({1, 1, 1, 1}, 2), target), 0.4);  // precision 1/4, recall 1
  EXPECT_EQ(measure("f1", telling({0, 0, 0, 0}, 2), target), 0);
  EXPECT_EQ(measure("f1", telling({0, 0}, 2), labels({0, 0})), 0);
  EXPECT_EQ(measure("macro_f1", telling({0, 0, 0, 0}, 2), target), (6.0 / 7 + 0) / 2);
  EXPECT_EQ(measure("matthews", telling({0, 0, 0, 0}, 2), target), 0);
  EXPECT_EQ(measure("matthews", telling({0, 1}, 2), labels({1, 1})), 0);
  EXPECT_NEAR(measure("perplexity", at::zeros({4, 7}), target), 7, 7 * 4 * 1.2e-7);
}

TEST(Metric, OfAKnownConfusionMatrixIsItsFormula) {
  // Targets 1: three found, one missed; targets 0: two wrong, four right.
  const at::Tensor output = telling({1, 1, 1, 0, 1, 1, 0, 0, 0, 0}, 2);
  const at::Tensor target = labels({1, 1, 1, 1, 0, 0, 0, 0, 0, 0});
  EXPECT_NEAR(measure("f1", output, target), 2.0 * 3 / (5 + 4), kEpsilon);
  EXPECT_NEAR(measure("matthews", output, target), (3.0 * 4 - 2 * 1) / std::sqrt(5.0 * 4 * 6 * 5), kEpsilon);
}

TEST(Metric, LeavesClassesThatNeverOccurOutOfTheMeanF1) {
  EXPECT_NEAR(measure("macro_f1", telling({0, 2, 2}, 5), labels({0, 2, 0})), (2.0 / 3 + 2.0 / 3) / 2, kEpsilon);
}

TEST(Metric, OfClassesIsThatOfTheNaiveConfusionMatrix) {
  for (const int64_t examples : {1, 2, 6, 31, 64})
    for (const int64_t classes : {2, 3, 5}) {
      const Case data = random_case(examples, classes);
      const auto counts = confusion(data);
      double sum = 0, occurring = 0;
      for (size_t k = 0; k < counts.size(); ++k)
        if (const double f1 = naive_f1(counts, k); !std::isnan(f1)) {
          sum += f1;
          ++occurring;
        }
      const double matthews = naive_matthews(counts);
      for (const int64_t batch : {1, 5, 64}) {
        EXPECT_NEAR(measure("macro_f1", data.output, data.target, {}, batch), sum / occurring, 8 * kEpsilon);
        EXPECT_NEAR(measure("matthews", data.output, data.target, {}, batch), std::isnan(matthews) ? 0 : matthews,
                    8 * kEpsilon);
        if (classes == 2 && !std::isnan(naive_f1(counts, 1))) {
          EXPECT_NEAR(measure("f1", data.output, data.target, {}, batch), naive_f1(counts, 1), 8 * kEpsilon);
        }
      }
    }
}

TEST(Metric, OfBinaryLabelsIsThatOfTwoClasses) {
  const at::Tensor output = at::tensor({2., -1., 0., 3., 0.1, -5.}).view({3, 2});
  const at::Tensor target = at::tensor({1., 0., 1., 0., 1., 0.}).view({3, 2});
  const at::Tensor classes = telling({1, 0, 0, 1, 1, 0}, 2), wanted = labels({1, 0, 1, 0, 1, 0});
  for (const std::string name : {"accuracy", "f1", "matthews"})
    EXPECT_EQ(measure(name, output, target, "binary_cross_entropy", 2), measure(name, classes, wanted)) << name;
}

TEST(Metric, CountsTokensThatAreNotIgnored) {
  const Case data = random_case(30, 3);
  for (const std::string name : {"accuracy", "macro_f1", "matthews", "perplexity"})
    EXPECT_NEAR(measure(name, data.output.view({5, 6, 3}), data.target.view({5, 6}), {}, 2),
                measure(name, data.output, data.target), 8 * 1.2e-7)
        << name;
}

TEST(Metric, PerplexityIsTheInverseGeometricMeanOfTheProbabilities) {
  const at::Tensor output = normal({8, 4}, 3);
  const at::Tensor target = labels({3, 0, -1, 2, 2, 1, -100, 0});
  double product = 1;
  for (int64_t n = 0; n < 8; ++n) {
    if (target[n].item<int64_t>() < 0) continue;
    double sum = 0;
    for (int64_t c = 0; c < 4; ++c) sum += std::exp(output[n][c].item<double>());
    product *= std::exp(output[n][target[n].item<int64_t>()].item<double>()) / sum;
  }
  const double expected = std::pow(product, -1.0 / 6);
  for (const int64_t batch : {1, 3, 8})
    EXPECT_NEAR(measure("perplexity", output, target, {}, batch), expected, 16 * kEpsilon * expected);
}

TEST(Metric, PerplexityOfHalfPrecisionIsComputedInFloat32) {
  const at::Tensor output = normal({64, 5}, 4).to(at::kBFloat16);
  const at::Tensor target = at::arange(64).remainder(5);
  const double expected = measure("perplexity", output.to(at::kFloat), target);
  EXPECT_EQ(measure("perplexity", output, target), expected);
}

TEST(Metric, PearsonIsTheMeanCorrelationOfTheComponents) {
  for (const int64_t examples : {2, 3, 17, 100})
    for (const int64_t width : {1, 2, 5}) {
      const at::Tensor target = normal({examples, width}, 5);
      const at::Tensor output = 0.5 * target + normal({examples, width}, 6) + 3;
      double expected = 0;
      for (int64_t k = 0; k < width; ++k)
        expected += naive_correlation(output.select(1, k), target.select(1, k)) / static_cast<double>(width);
      for (const int64_t batch : {1, 7, 100})
        EXPECT_NEAR(measure("pearson", output, target, "mean_squared_error", batch), expected, 1000 * kEpsilon);
    }
}

TEST(Metric, PearsonOfAConstantOutputIsZeroInSpiteOfRounding) {
  EXPECT_EQ(measure("pearson", at::full({7, 1}, 0.1, at::kDouble), normal({7, 1}, 7), "mean_squared_error", 2), 0);
}

TEST(Metric, PearsonRefusesConstantTargetsAndNamesTheComponent) {
  at::Tensor target = normal({6, 3}, 8);
  target.select(1, 2).fill_(0.3);
  EXPECT_THAT(input_error_of([&] {
                measure("pearson", normal({6, 3}, 9), target, "mean_squared_error");
              }),
              HasSubstr("component 2"));
}

TEST(Metric, RSquaredRefusesConstantTargetsInSpiteOfRounding) {
  for (const double value : {0.1, 0.3, 1e3 / 7}) {
    const at::Tensor target = at::full({7, 2}, value, at::kDouble);
    EXPECT_THAT(input_error_of([&] {
                  measure("r_squared", normal({7, 2}, 10), target, "mean_squared_error", 2);
                }),
                HasSubstr("all of them are the same"));
  }
}

TEST(Metric, F1RefusesMoreThanTwoClasses) {
  EXPECT_THAT(input_error_of([] { measure("f1", telling({0, 1}, 3), labels({0, 1})); }), HasSubstr("macro_f1"));
}

TEST(Metric, KnowsWhichFiguresAreBetterAndWhichMayBeDivided) {
  for (const auto& name : metric_names()) {
    const Metric& metric = find_metric(name);
    EXPECT_EQ(metric.higher_is_better, name != "perplexity") << name;
    EXPECT_EQ(metric.merit(2) > metric.merit(1), metric.higher_is_better) << name;
    EXPECT_EQ(metric.normalisable, name == "accuracy" || name == "f1" || name == "macro_f1") << name;
  }
}

TEST(Metric, NamesTheNearestForAnUnknownOneAndWhatGoesWithALoss) {
  EXPECT_THAT(input_error_of([] { find_metric("acuracy"); }), HasSubstr("'accuracy'"));
  EXPECT_THAT(input_error_of([] { fitting_metric("accuracy", "mean_squared_error", "tasks.left.metric"); }),
              AllOf(HasSubstr("tasks.left.metric"), HasSubstr("use r_squared or pearson")));
  EXPECT_THAT(input_error_of([] { fitting_metric("perplexity", "binary_cross_entropy"); }),
              HasSubstr("use accuracy or f1 or matthews"));
}

TEST(Metric, OfAGpuIsThatOfTheCpu) {
  if (!at::hasCUDA()) GTEST_SKIP() << "no GPU here";
  const Case data = random_case(500, 4);
  for (const std::string name : {"accuracy", "macro_f1", "matthews", "perplexity"}) {
    const Metric& metric = find_metric(name);
    const at::Tensor there = metric.sums(LossSpec::Kind::kCrossEntropy, data.output.cuda(), data.target.cuda()).cpu();
    const at::Tensor here = metric.sums(LossSpec::Kind::kCrossEntropy, data.output, data.target);
    EXPECT_TRUE(at::allclose(there, here, 500 * 1.2e-7, 0)) << name;
  }
}

}  // namespace
}  // namespace amalgam
