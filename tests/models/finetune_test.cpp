#include "models/finetune.h"

#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>

#include "expect_error.h"
#include "memory_batches.h"
#include "models/architectures/architecture.h"
#include "models/evaluate.h"

namespace amalgam {
namespace {

using testing::AllOf;
using testing::HasSubstr;

/// Points on the plane in two classes, inside and outside of a circle: no linear model separates them.
struct Toy {
  at::Tensor inputs, target;  // [n, 1, 1, 2], [n]

  explicit Toy(int64_t n, uint64_t seed) {
    at::Generator generator = RandomStream(seed, "toy").generator();
    inputs = at::empty({n, 1, 1, 2}).uniform_(-1, 1, generator);
    target = inputs.square().sum({1, 2, 3}).lt(2 / M_PI).to(at::kLong);  // half of the square's area
  }
  MemoryBatches batches(int64_t batch, bool shuffled) const { return {inputs, target, batch, shuffled}; }
};

/// One thread: the work is too small to share.
class Finetune : public testing::Test {
 protected:
  Finetune() { at::set_num_threads(1); }
  ~Finetune() override { at::set_num_threads(threads_); }

 private:
  int threads_ = at::get_num_threads();
};

std::unique_ptr<ModelRunner> new_mlp() {
  return make_architecture("mlp", YAML::Load("{hidden: [32]}"), {1, 1, 2}, 2, 3);
}

FinetuneOptions quick(int64_t steps) {
  FinetuneOptions options;
  options.steps = steps;
  options.rate = 1e-2;
  return options;
}

NamedTensors copies(const ModelRunner& model) {
  NamedTensors tensors = model.parameters();
  for (auto& [name, tensor] : tensors) tensor = tensor.detach().clone();
  return tensors;
}

FinetuneResult train(ModelRunner& model, const FinetuneOptions& options, const std::vector<std::string>& frozen = {}) {
  MemoryBatches train_source = Toy(512, 1).batches(32, true), val = Toy(256, 2).batches(100, false);
  SilentProgress progress;
  return finetune(model, train_source, val, "cross_entropy", "accuracy", frozen, options, progress);
}

TEST_F(Finetune, LearnsWhatNoLinearModelCan) {
  const auto model = new_mlp();
  const FinetuneResult result = train(*model, quick(400));
  MemoryBatches test = Toy(1000, 3).batches(256, false);
  SilentProgress progress;
  EXPECT_GT(evaluate(*model, test, "cross_entropy", "accuracy", progress).value, 0.95);
  ASSERT_EQ(result.curve.size(), 5U);
  EXPECT_EQ(result.curve.back().step, 400);
  EXPECT_LT(result.curve.back().train_loss, result.curve.front().train_loss);
}

TEST_F(Finetune, GivesTheSameParametersTwice) {
  const auto first = new_mlp(), second = new_mlp();
  train(*first, quick(40));
  train(*second, quick(40));
  const NamedTensors other = second->parameters();
  for (const auto& [name, tensor] : first->parameters()) EXPECT_TRUE(at::equal(tensor, other.at(name))) << name;
}

TEST_F(Finetune, LeavesFrozenParametersAsTheyWere) {
  const auto model = new_mlp();
  const NamedTensors before = copies(*model);
  train(*model, quick(20), {"body.layers.0.weight", "head.bias"});
  for (const auto& [name, tensor] : model->parameters()) {
    const bool frozen = name == "body.layers.0.weight" || name == "head.bias";
    EXPECT_EQ(at::equal(tensor, before.at(name)), frozen) << name;
  }
}

/// From its first look at val on, each step of training makes this model worse: the labels are swapped.
FinetuneResult train_for_the_worse(ModelRunner& model, const std::string& metric, int64_t patience) {
  train(model, quick(200));
  const Toy toy(512, 1);
  MemoryBatches wrong(toy.inputs, 1 - toy.target, 32), val = Toy(256, 2).batches(100, false);
  FinetuneOptions options = quick(100);
  options.rate = 5e-2;
  options.warmup = 1;
  options.evaluate_every = 10;
  options.patience = patience;
  SilentProgress progress;
  return finetune(model, wrong, val, "cross_entropy", metric, {}, options, progress);
}

TEST_F(Finetune, RestoresTheBestCheckpoint) {
  const auto model = new_mlp();
  const FinetuneResult result = train_for_the_worse(*model, "accuracy", 0);
  ASSERT_EQ(result.curve.size(), 10U);
  ASSERT_LT(result.curve.back().val_metric, 0.5);
  EXPECT_EQ(result.best_step, 10);
  MemoryBatches val = Toy(256, 2).batches(100, false);
  SilentProgress progress;
  const Score restored = evaluate(*model, val, "cross_entropy", "accuracy", progress);
  EXPECT_EQ(restored.value, result.curve.front().val_metric);
  EXPECT_EQ(restored.loss, result.curve.front().val_loss);
}

TEST_F(Finetune, KeepsTheLowestPerplexity) {
  const auto model = new_mlp();
  const FinetuneResult result = train_for_the_worse(*model, "perplexity", 0);
  ASSERT_EQ(result.curve.size(), 10U);
  ASSERT_GT(result.curve.back().val_metric, result.curve.front().val_metric);
  EXPECT_EQ(result.best_step, 10);
}

TEST_F(Finetune, EndsAfterSoManyLooksAtValWithoutABetterOne) {
  const auto model = new_mlp();
  const FinetuneResult result = train_for_the_worse(*model, "accuracy", 3);
  EXPECT_EQ(result.curve.size(), 4U);
  EXPECT_EQ(result.best_step, 10);
}

TEST_F(Finetune, GoesOnAsLongAsValImproves) {
  const auto model = new_mlp();
  const Toy toy(64, 1);
  // One class alone: the metric is 1 at once, and only the loss goes on falling, at every look.
  MemoryBatches train_source(toy.inputs, at::zeros({64}, at::kLong), 64),
      val(toy.inputs, at::zeros({64}, at::kLong), 64);
  FinetuneOptions options = quick(50);
  options.evaluate_every = 10;
  options.patience = 1;
  SilentProgress progress;
  EXPECT_EQ(finetune(*model, train_source, val, "cross_entropy", "accuracy", {}, options, progress).curve.size(), 5U);
}

TEST_F(Finetune, PrefersTheLowerLossAmongEqualMetrics) {
  const auto model = new_mlp();
  const Toy toy(64, 1);
  // One class alone: the metric is 1 at once, and only the loss goes on falling.
  MemoryBatches train_source(toy.inputs, at::zeros({64}, at::kLong), 64),
      val(toy.inputs, at::zeros({64}, at::kLong), 64);
  SilentProgress progress;
  const FinetuneResult result =
      finetune(*model, train_source, val, "cross_entropy", "accuracy", {}, quick(50), progress);
  ASSERT_EQ(result.curve[1].val_metric, 1.0);
  EXPECT_EQ(result.best_step, 50);
}

TEST_F(Finetune, RateRisesInALineAndFallsByHalfACosine) {
  FinetuneOptions options;
  options.steps = 12;
  options.rate = 0.8;
  options.warmup = 0.34;  // four steps
  const std::vector<double> rise = {0.2, 0.4, 0.6, 0.8};
  for (size_t i = 0; i < rise.size(); ++i) EXPECT_NEAR(learning_rate(options, static_cast<int64_t>(i)), rise[i], 1e-15);
  EXPECT_NEAR(learning_rate(options, 4), 0.8, 1e-15);
  EXPECT_NEAR(learning_rate(options, 8), 0.4, 1e-15);
  EXPECT_NEAR(learning_rate(options, 10), 0.4 * (1 - std::sqrt(0.5)), 1e-15);
}

TEST_F(Finetune, DecaysMatricesAndSparesVectors) {
  const auto model = new_mlp();
  model->set({{"head.bias", at::tensor({1.F, -2.F})}});
  const NamedTensors before = copies(*model);
  const Toy toy(8, 1);
  // Targets that are all ignored give no gradient, and leave the decay alone.
  MemoryBatches ignored(toy.inputs, at::full({8}, -1, at::kLong), 8), val = toy.batches(8, false);
  FinetuneOptions options;
  options.steps = 1;
  options.rate = 0.5;
  options.warmup = 0;
  options.decay = 0.2;
  SilentProgress progress;
  finetune(*model, ignored, val, "cross_entropy", "accuracy", {}, options, progress);
  for (const auto& [name, tensor] : model->parameters()) {
    const at::Tensor expected = tensor.dim() == 1 ? before.at(name) : before.at(name) * 0.9;
    EXPECT_TRUE(at::allclose(tensor, expected, 2 * 1.2e-7, 0)) << name;
  }
}

TEST_F(Finetune, ClipsTheGradient) {
  // Far below AdamW's ε of 1e-8 a gradient moves nothing; unclipped, each step is of the size of the rate.
  FinetuneOptions options = quick(5);
  options.decay = 0;
  const auto moved = [&](double clip) {
    const auto model = new_mlp();
    const NamedTensors before = copies(*model);
    options.clip = clip;
    train(*model, options);
    return (model->parameters().at("head.weight") - before.at("head.weight")).abs().max().item<double>();
  };
  EXPECT_LT(moved(1e-14), 1e-6);
  EXPECT_GT(moved(0), 1e-3);
}

TEST_F(Finetune, NamesTheStepWhoseLossIsNotFinite) {
  const auto model = new_mlp();
  Toy toy(64, 1);
  toy.inputs[50].fill_(NAN);
  MemoryBatches train_source = toy.batches(16, false), val = Toy(8, 2).batches(8, false);
  SilentProgress progress;
  EXPECT_THAT(
      input_error_of([&] { finetune(*model, train_source, val, "cross_entropy", "accuracy", {}, quick(9), progress); }),
      AllOf(HasSubstr("step 4"), HasSubstr("not finite"), HasSubstr("a lower rate may help")));
  for (const auto& [name, tensor] : model->parameters()) EXPECT_FALSE(tensor.requires_grad()) << name;
}

TEST_F(Finetune, BlamesTheRateForNoTargetOutOfRange) {
  const auto model = new_mlp();
  Toy toy(64, 1);
  toy.target[50] = 7;
  MemoryBatches train_source = toy.batches(16, false), val = Toy(8, 2).batches(8, false);
  SilentProgress progress;
  EXPECT_THAT(
      input_error_of([&] { finetune(*model, train_source, val, "cross_entropy", "accuracy", {}, quick(9), progress); }),
      AllOf(HasSubstr("step 4"), HasSubstr("target 7"), testing::Not(HasSubstr("lower rate"))));
}

TEST_F(Finetune, LeavesParametersThatRequireNoGradient) {
  const auto model = new_mlp();
  train(*model, quick(5));
  for (const auto& [name, tensor] : model->parameters()) {
    EXPECT_FALSE(tensor.requires_grad()) << name;
    EXPECT_FALSE(tensor.grad().defined()) << name;
  }
}

TEST_F(Finetune, StopsWhenAskedTo) {
  struct Stopping final : Progress {
    void begin(const std::string&, int64_t) override {}
    void update(int64_t done, const std::string&) override {
      if (done == 3) throw Interrupted();
    }
    void end(const std::string&) override {}
    void message(const std::string&) override {}
  } progress;
  const auto model = new_mlp();
  MemoryBatches train_source = Toy(64, 1).batches(16, false), val = Toy(8, 2).batches(8, false);
  EXPECT_THROW(finetune(*model, train_source, val, "cross_entropy", "accuracy", {}, quick(9), progress), Interrupted);
}

TEST_F(Finetune, RefusesAFrozenNameThatDoesNotExistAndNothingToTrain) {
  const auto model = new_mlp();
  EXPECT_THAT(input_error_of([&] { train(*model, quick(1), {"head.weigth"}); }), HasSubstr("'head.weight'"));
  EXPECT_THAT(input_error_of([&] { train(*model, quick(1), model->parameter_names()); }),
              HasSubstr("nothing to train"));
}

TEST_F(Finetune, RefusesAnEmptyTrainingSplit) {
  const auto model = new_mlp();
  MemoryBatches none(at::empty({0, 1, 1, 2}), at::empty({0}, at::kLong), 4), val = Toy(8, 2).batches(8, false);
  SilentProgress progress;
  EXPECT_THAT(input_error_of([&] { finetune(*model, none, val, "cross_entropy", "accuracy", {}, quick(1), progress); }),
              HasSubstr("empty"));
}

const std::vector<std::string> kHeads = {"head.weight", "head.bias"};

StagedResult train_in_stages(ModelRunner& model, const FinetuneOptions& options) {
  MemoryBatches train_source = Toy(512, 1).batches(32, true), val = Toy(256, 2).batches(100, false);
  SilentProgress progress;
  return finetune_in_stages(model, train_source, val, "cross_entropy", "accuracy", kHeads, options, progress);
}

/// The names of the parameters that are not as they were.
std::vector<std::string> moved(const ModelRunner& model, const NamedTensors& before) {
  std::vector<std::string> names;
  for (const auto& name : model.parameter_names())
    if (!at::equal(model.parameters().at(name), before.at(name))) names.push_back(name);
  return names;
}

TEST_F(Finetune, FitsTheHeadsFirstAndAlone) {
  const auto model = new_mlp();
  const NamedTensors before = copies(*model);
  FinetuneOptions options = quick(20);
  options.rate = 0;  // the second stage moves nothing
  options.heads = {.steps = 50, .rate = 1e-2};
  const StagedResult result = train_in_stages(*model, options);
  EXPECT_EQ(moved(*model, before), kHeads);
  EXPECT_EQ(result.heads.curve.back().step, 50);
  EXPECT_EQ(result.rest.curve.back().step, 20);
  EXPECT_LT(result.heads.curve.back().train_loss, result.heads.curve.front().train_loss);
}

TEST_F(Finetune, LeavesTheHeadsAsTheFirstStageFittedThem) {
  const auto model = new_mlp();
  const NamedTensors before = copies(*model);
  FinetuneOptions options = quick(20);
  options.heads = {.steps = 50, .rate = 0};
  train_in_stages(*model, options);
  EXPECT_EQ(moved(*model, before), (std::vector<std::string>{"body.layers.0.weight", "body.layers.0.bias"}));
}

TEST_F(Finetune, BeginsTheSecondStageAtTheBestOfTheFirst) {
  const auto model = new_mlp();
  train(*model, quick(200));
  // The labels are swapped: the heads become worse at each look at val, so that the best point is not the last.
  const Toy toy(512, 1);
  MemoryBatches wrong(toy.inputs, 1 - toy.target, 32), val = Toy(256, 2).batches(100, false);
  FinetuneOptions options = quick(5);
  options.rate = 0;
  options.warmup = 1;
  options.heads = {.steps = 50, .rate = 5e-2};
  SilentProgress progress;
  const auto [heads, rest] =
      finetune_in_stages(*model, wrong, val, "cross_entropy", "accuracy", kHeads, options, progress);
  ASSERT_LT(heads.best_step, 50);
  const auto best = std::ranges::find(heads.curve, heads.best_step, &FinetuneResult::Point::step);
  ASSERT_NE(best, heads.curve.end());
  EXPECT_EQ(rest.curve.front().val_loss, best->val_loss);
}

/// Runs another model, and keeps what its training passes saw.
class Watched final : public ModelRunner {
 public:
  explicit Watched(std::unique_ptr<ModelRunner> inner) : inner_(std::move(inner)) {}

  struct Pass {
    bool training;
    std::vector<std::string> trained;  ///< parameters that require a gradient
  };
  std::vector<Pass> passes;

  const std::vector<std::string>& parameter_names() const override { return inner_->parameter_names(); }
  const std::map<std::string, std::string>& aliases() const override { return inner_->aliases(); }
  NamedTensors parameters() const override { return inner_->parameters(); }
  NamedTensors buffers() const override { return inner_->buffers(); }
  void set(const NamedTensors& values) override { inner_->set(values); }
  at::Tensor forward(const Batch& batch) override {
    if (c10::GradMode::is_enabled()) {
      Pass pass{training_, {}};
      for (const auto& name : parameter_names())
        if (parameters().at(name).requires_grad()) pass.trained.push_back(name);
      passes.push_back(pass);
    }
    return inner_->forward(batch);
  }
  void set_training(bool on) override { inner_->set_training(training_ = on); }
  at::Device device() const override { return inner_->device(); }
  void save(const std::filesystem::path& path) const override { inner_->save(path); }

 private:
  std::unique_ptr<ModelRunner> inner_;
  bool training_ = false;
};

TEST_F(Finetune, FitsTheHeadsInEvaluationModeWithoutGradientsThroughTheBody) {
  Watched model(new_mlp());
  FinetuneOptions options = quick(4);
  options.heads = {.steps = 6, .rate = 1e-2};
  train_in_stages(model, options);
  ASSERT_EQ(model.passes.size(), 10U);
  for (size_t i = 0; i < model.passes.size(); ++i) {
    EXPECT_EQ(model.passes[i].training, i >= 6) << i;
    EXPECT_EQ(model.passes[i].trained == kHeads, i < 6) << i;
  }
}

}  // namespace
}  // namespace amalgam
