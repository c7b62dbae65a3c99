#include "models/evaluate.h"

#include <torch/script.h>

#include <cmath>

#include "expect_error.h"
#include "memory_batches.h"
#include "models/torchscript_runner.h"

namespace amalgam {
namespace {

using testing::HasSubstr;

/// A model that gives back its input, so that a test writes the outputs by hand.
std::unique_ptr<ModelRunner> identity() {
  torch::jit::Module module("Identity");
  module.register_parameter("zero", at::zeros({1}), false);
  module.define("def forward(self, x: Tensor) -> Tensor:\n    return x + self.zero\n");
  return runner_from_module(module);
}

Score score(const at::Tensor& output, const at::Tensor& target, int64_t batch, const LossSpec& loss = {},
            const std::string& metric = "accuracy") {
  MemoryBatches source(output, target, batch);
  SilentProgress progress;
  return evaluate(*identity(), source, loss, metric, progress);
}

TEST(Evaluate, CountsTheExamplesWhoseTargetHasTheLargestOutput) {
  const at::Tensor output = at::tensor({2., 1., 0., 0., 5., 1., 3., 3.5, 3., 0., 0., 9.}).view({4, 3});
  for (const int64_t batch : {1, 3, 4}) {
    const Score found = score(output, at::tensor({0, 1, 2, 2}, at::kLong), batch);
    EXPECT_EQ(found.count, 4);
    EXPECT_EQ(found.value, 0.75);
  }
}

TEST(Evaluate, CountsTokensAndAveragesTheLossOverThem) {
  // Two classes and outputs 0 | ln 3: the probabilities are 1/4 and 3/4.
  const float three = std::log(3.0F);
  const at::Tensor output =
      at::tensor({0.F, three, 0.F, three, three, 0.F, 0.F, three, 0.F, three, 0.F, three}).view({3, 2, 2});
  const at::Tensor target = at::tensor({1, 0, -1, 1, -1, -1}, at::kLong).view({3, 2});
  for (const int64_t batch : {1, 2, 3}) {
    const Score found = score(output, target, batch);
    EXPECT_EQ(found.count, 3);
    EXPECT_NEAR(found.value, 2.0 / 3, 1e-15);
    EXPECT_NEAR(found.loss, (std::log(4.0 / 3) + std::log(4.0) + std::log(4.0 / 3)) / 3, 4 * 1.2e-7);
  }
}

TEST(Evaluate, NamesAnExampleByItsPlaceInTheSource) {
  at::Tensor output = at::eye(5);
  output[3].fill_(NAN);
  try {
    score(output, at::arange(5), 2);
    ADD_FAILURE() << "no error";
  } catch (const ExampleError& error) {
    EXPECT_EQ(error.position(), 3);
  }
}

TEST(Evaluate, BeginsAtTheStartOfTheSource) {
  MemoryBatches source(at::eye(4), at::arange(4), 2);
  Batch taken;
  ASSERT_TRUE(source.next(taken));
  SilentProgress progress;
  EXPECT_EQ(evaluate(*identity(), source, "cross_entropy", "accuracy", progress).count, 4);
}

TEST(Evaluate, RefusesASourceWithoutATarget) {
  EXPECT_THAT(input_error_of([] {
                score(at::eye(2), at::tensor({-1, -1}, at::kLong), 2);
              }),
              HasSubstr("nothing to evaluate"));
  EXPECT_THAT(input_error_of([] {
                score(at::empty({0, 2}), at::empty({0}, at::kLong), 2);
              }),
              HasSubstr("nothing to evaluate"));
}

TEST(Evaluate, CountsEachLabelWhoseLogitIsOnItsSide) {
  const at::Tensor output = at::tensor({2., -1., 0., 3., 0.1, -5.}).view({2, 3});
  const at::Tensor target = at::tensor({1, 0, 1, 0, 1, 0}, at::kLong).view({2, 3});
  for (const int64_t batch : {1, 2}) {
    const Score found = score(output, target, batch, "binary_cross_entropy");
    EXPECT_EQ(found.count, 6);
    EXPECT_NEAR(found.value, 4.0 / 6, 1e-15);
  }
  EXPECT_EQ(score(output.select(1, 0), at::tensor({1., 0.}), 2, "binary_cross_entropy").value, 0.5);
}

TEST(Evaluate, ExplainsTheSpreadOfValuesAroundTheMeanOfTheSplit) {
  const at::Tensor target = at::tensor({1., 10., 3., 20., 5., 60.}).view({3, 2});
  const at::Tensor output = target + at::tensor({1., 0., 0., 10., -1., 0.}).view({3, 2});
  // The means are 3 and 30, the spreads 8 and 1400, the squared errors 2 and 100.
  for (const int64_t batch : {1, 2, 3}) {
    const Score found = score(output, target, batch, "mean_squared_error", "r_squared");
    EXPECT_EQ(found.count, 6);
    EXPECT_NEAR(found.value, 1 - 102.0 / 1408, 1e-15);
    EXPECT_NEAR(found.loss, 51.0 / 6, 1e-15);
  }
  EXPECT_THAT(input_error_of([] {
                score(at::eye(2), at::ones({2, 2}), 2, "mean_squared_error", "r_squared");
              }),
              HasSubstr("all of them are the same"));
}

TEST(Evaluate, AveragesTheLossOverExamplesWhereItIsAMeanAlready) {
  // Two classes and outputs 0 | ln 3: the probabilities are 1/4 and 3/4. Two targets count in the first example, one in
  // the second, none in the third.
  const float three = std::log(3.0F);
  const at::Tensor output =
      at::tensor({0.F, three, 0.F, three, three, 0.F, 0.F, three, 0.F, three, 0.F, three}).view({3, 2, 2});
  const at::Tensor target = at::tensor({1, 0, -1, 1, -1, -1}, at::kLong).view({3, 2});
  LossSpec mean;
  mean.targets = "mean";
  const double first = (std::log(4.0 / 3) + std::log(4.0)) / 2, second = std::log(4.0 / 3);
  for (const int64_t batch : {1, 2, 3}) {
    EXPECT_NEAR(score(output, target, batch, mean).loss, (first + second) / 2, 4 * 1.2e-7);
    EXPECT_EQ(score(output, target, batch, mean).count, 3);
  }
}

TEST(Evaluate, GivesThePerplexityOfAllTokensWhateverTheBatchesAndTheLossOptions) {
  // Two classes and outputs 0 | ln 3: the probabilities are 1/4 and 3/4.
  const float three = std::log(3.0F);
  const at::Tensor output = at::tensor({0.F, three, 0.F, three, three, 0.F, 0.F, three}).view({2, 2, 2});
  const at::Tensor target = at::tensor({1, 0, -1, 1}, at::kLong).view({2, 2});
  LossSpec loss;
  loss.label_smoothing = 0.2;
  loss.targets = "mean";
  for (const int64_t batch : {1, 2})
    EXPECT_NEAR(score(output, target, batch, loss, "perplexity").value, std::cbrt(4.0 / 3 * 4 * 4 / 3), 8 * 1.2e-7);
}

TEST(Evaluate, RefusesAMetricThatDoesNotGoWithTheLoss) {
  EXPECT_THAT(input_error_of([] {
                score(at::eye(2), at::ones({2, 2}), 2, "mean_squared_error");
              }),
              HasSubstr("use r_squared or pearson"));
}

Predictions predictions_of(const at::Tensor& output, const at::Tensor& target, int64_t batch, const LossSpec& loss,
                           const std::string& metric) {
  MemoryBatches source(output, target, batch);
  SilentProgress progress;
  Predictions predictions;
  evaluate(*identity(), source, loss, metric, progress, &predictions);
  return predictions;
}

TEST(Evaluate, PredictsClassesOfExamplesAndTokensInTheirOrder) {
  const at::Tensor output = at::tensor({2.F, 1.F, 0.F, 0.F, 5.F, 1.F, 3.F, 3.5F, 3.F}).view({3, 3});
  const at::Tensor target = at::tensor({0, 2, 1}, at::kLong);
  for (const int64_t batch : {1, 2, 3}) {
    const auto found = predictions_of(output, target, batch, "cross_entropy", "accuracy");
    EXPECT_TRUE(at::equal(found.prediction, at::tensor({0, 1, 1}, at::kLong)));
    EXPECT_TRUE(at::equal(found.target, target));
    EXPECT_TRUE(at::allclose(found.loss, example_losses("cross_entropy", output, target), 4 * 1.2e-7, 0));
    EXPECT_EQ(found.loss.scalar_type(), at::kFloat);
  }
  const auto tokens = predictions_of(output.view({1, 3, 3}), target.view({1, 3}), 1, "cross_entropy", "accuracy");
  EXPECT_TRUE(at::equal(tokens.prediction, at::tensor({0, 1, 1}, at::kLong).view({1, 3})));
  EXPECT_EQ(tokens.loss.numel(), 1);
}

TEST(Evaluate, PredictsLabelsAndValues) {
  const at::Tensor output = at::tensor({2., -1., 0., 3.}).view({2, 2});
  const at::Tensor target = at::tensor({1., 0., 0., 1.}).view({2, 2});
  const auto labels = predictions_of(output, target, 1, "binary_cross_entropy", "f1");
  EXPECT_TRUE(at::equal(labels.prediction, at::tensor({1, 0, 0, 1}, at::kLong).view({2, 2})));
  const auto values = predictions_of(output, target, 1, "mean_squared_error", "pearson");
  EXPECT_TRUE(at::equal(values.prediction, output.to(at::kFloat)));
  EXPECT_TRUE(at::equal(values.loss, at::tensor({1.F, 2.F})));
}

/// Batches of several lengths, as data give them whose padding is cut off.
class GivenBatches final : public BatchSource {
 public:
  explicit GivenBatches(std::vector<Batch> batches) : batches_(std::move(batches)) {}
  bool next(Batch& batch) override {
    if (position_ == batches_.size()) return false;
    batch = batches_[position_++];
    return true;
  }
  void reset() override { position_ = 0; }
  int64_t examples() const override { return std::ssize(batches_); }

 private:
  std::vector<Batch> batches_;
  size_t position_ = 0;
};

TEST(Evaluate, FillsPredictionsOfShorterBatchesUp) {
  std::vector<Batch> batches;
  for (const int64_t length : {2, 3, 1}) {
    batches.push_back(batch_of(at::tensor({0.F, 1.F}).expand({1, length, 2}).contiguous()));
    batches.back().target = at::ones({1, length}, at::kLong);
  }
  GivenBatches source(batches);
  SilentProgress progress;
  Predictions found;
  evaluate(*identity(), source, "cross_entropy", "accuracy", progress, &found);
  EXPECT_TRUE(at::equal(found.prediction, at::tensor({1, 1, 0, 1, 1, 1, 1, 0, 0}, at::kLong).view({3, 3})));
  EXPECT_TRUE(at::equal(found.target, at::tensor({1, 1, -100, 1, 1, 1, 1, -100, -100}, at::kLong).view({3, 3})));
  EXPECT_EQ(found.loss.numel(), 3);
}

}  // namespace
}  // namespace amalgam
