#include "models/adapter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/script.h>

#include <cmath>

#include "core/error.h"
#include "core/low_rank.h"
#include "core/random.h"
#include "expect_error.h"
#include "memory_batches.h"
#include "models/finetune.h"
#include "models/layer_scan.h"
#include "models/torchscript_runner.h"

namespace amalgam {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr double kEpsilon = 2.3e-16;

at::Tensor drawn(at::IntArrayRef shape, uint64_t seed) {
  return at::randn(shape, RandomStream(seed, "adapter test").generator(), at::kDouble);
}

/// Five inputs, a hidden layer of six, a transposed one, four classes; float64.
std::unique_ptr<ModelRunner> small_model() {
  torch::jit::Module module("Small");
  module.register_parameter("inner", drawn({6, 5}, 1), false);
  module.register_parameter("stored_in_out", drawn({6, 7}, 2), false);
  module.register_parameter("outer", drawn({4, 7}, 3), false);
  module.register_parameter("bias", drawn({4}, 4), false);
  module.define(R"(
def forward(self, x):
    h = torch.tanh(torch.linear(x, self.inner))
    return torch.linear(torch.matmul(h, self.stored_in_out), self.outer, self.bias)
)");
  return runner_from_module(module);
}

AdapterSpec spec_of(const std::vector<std::string>& targets, int64_t rank = 2, double alpha = 3) {
  AdapterSpec spec;
  spec.kind = "lora";
  spec.rank = rank;
  spec.alpha = alpha;
  spec.targets = targets;
  return spec;
}

struct Data {
  at::Tensor inputs = drawn({12, 5}, 5), target = at::arange(12) % 4;
};

double mean_loss(ModelRunner& model, const Data& data) {
  return at::cross_entropy_loss(model.forward(batch_of(data.inputs)), data.target).item<double>();
}

/// Factors far from their start, so that neither gradient is zero.
NamedTensors random_factors(const LowRankAdapter& adapter) {
  NamedTensors values = adapter.values();
  uint64_t seed = 10;
  for (auto& [name, value] : values) value = drawn(value.sizes(), ++seed);
  return values;
}

/// The gradients by the factors, by the adapter's chain rule.
NamedTensors chain_gradients(ModelRunner& model, LowRankAdapter& adapter, const Data& data) {
  adapter.fold();
  for (const at::Tensor& weight : adapter.weights()) weight.requires_grad_(true);
  at::cross_entropy_loss(model.forward(batch_of(data.inputs)), data.target).backward();
  adapter.take_gradients();
  NamedTensors gradients;
  const auto factors = adapter.factors();
  for (size_t i = 0; i < adapter.targets().size(); ++i) {
    gradients[down_name(adapter.targets()[i])] = factors[2 * i].grad();
    gradients[up_name(adapter.targets()[i])] = factors[2 * i + 1].grad();
  }
  for (const at::Tensor& weight : adapter.weights()) weight.requires_grad_(false);
  return gradients;
}

TEST(Adapter, GivesTheGradientsOfAModuleThatHasTheFactorsInIt) {
  const auto model = small_model();
  LowRankAdapter adapter(*model, spec_of({"inner", "outer"}), {"inner", "outer"}, 0);
  NamedTensors values = random_factors(adapter);
  const NamedTensors base = model->parameters();
  const at::Tensor inner = base.at("inner").clone(), outer = base.at("outer").clone();
  adapter.set(values);
  const Data data;
  const NamedTensors given = chain_gradients(*model, adapter, data);
  for (auto& [name, value] : values) value.requires_grad_(true);
  const auto low = [&](const at::Tensor& x, const std::string& weight) {
    return x.mm(values.at(down_name(weight)).t()).mm(values.at(up_name(weight)).t()) * 1.5;  // alpha / rank
  };
  const at::Tensor h = at::tanh(data.inputs.mm(inner.t()) + low(data.inputs, "inner"));
  const at::Tensor features = h.mm(base.at("stored_in_out"));
  const at::Tensor logits = features.mm(outer.t()) + low(features, "outer") + base.at("bias");
  at::cross_entropy_loss(logits, data.target).backward();
  for (const auto& [name, value] : values) {
    const double size = value.grad().norm().item<double>();
    ASSERT_GT(size, 1e-3) << name;
    EXPECT_LT((given.at(name) - value.grad()).norm().item<double>(), 100 * kEpsilon * size) << name;
  }
}

TEST(Adapter, GivesTheSlopeOfTheLoss) {
  const auto model = small_model();
  LowRankAdapter adapter(*model, spec_of({"inner"}), {"inner"}, 0);
  const NamedTensors values = random_factors(adapter);
  adapter.set(values);
  const Data data;
  const NamedTensors gradients = chain_gradients(*model, adapter, data);
  const double step = 1e-5;
  for (const auto& [name, value] : values) {
    double ends[2];
    for (const int side : {0, 1}) {
      NamedTensors moved = values;
      moved[name] = value.clone();
      moved[name][1][1] += (side == 1 ? step : -step);
      adapter.set(moved);
      adapter.fold();
      ends[side] = mean_loss(*model, data);
    }
    // The error of a central difference is of the order of step² and of ε / step.
    EXPECT_NEAR(gradients.at(name)[1][1].item<double>(), (ends[1] - ends[0]) / (2 * step), 1e-8) << name;
  }
}

TEST(Adapter, StartsAsTheModelAndFromOneAForAllExpertsOfASeed) {
  const auto model = small_model(), other = small_model();
  const at::Tensor before = model->parameters().at("inner").clone();
  LowRankAdapter adapter(*model, spec_of({"inner"}), {"inner"}, 7),
      again(*other, spec_of({"*"}), {"outer", "inner"}, 7);
  adapter.fold();
  EXPECT_TRUE(at::equal(model->parameters().at("inner"), before));
  const at::Tensor down = adapter.values().at("inner.lora_A");
  EXPECT_TRUE(at::equal(down, again.values().at("inner.lora_A")));
  EXPECT_FALSE(at::equal(down, LowRankAdapter(*model, spec_of({"inner"}), {"inner"}, 8).values().at("inner.lora_A")));
  EXPECT_LT(down.abs().max().item<double>(), 1 / std::sqrt(5.0));
  EXPECT_GT(down.abs().max().item<double>(), 0.5 / std::sqrt(5.0));
}

TEST(Adapter, ScalesByTheRankOrByItsRoot) {
  AdapterSpec spec = spec_of({}, 4, 8);
  EXPECT_EQ(spec.scale(), 2);
  spec.rslora = true;
  EXPECT_EQ(spec.scale(), 4);
}

/// Trains `inner` by factors beside the bias.
FinetuneResult train(ModelRunner& model, LowRankAdapter& adapter, double rate) {
  const Data data;
  MemoryBatches train_source(data.inputs, data.target, 6, true), val(data.inputs, data.target, 12);
  FinetuneOptions options;
  options.steps = 40;
  options.rate = rate;
  options.evaluate_every = 4;
  SilentProgress progress;
  return finetune(model, train_source, val, "cross_entropy", "accuracy", {"stored_in_out", "outer"}, options, progress,
                  &adapter);
}

TEST(Adapter, IsTrainedAloneWithWhatIsNotFrozen) {
  const auto model = small_model();
  const auto before = small_model()->parameters();
  LowRankAdapter adapter(*model, spec_of({"inner"}, 1), {"inner"}, 0);
  const FinetuneResult result = train(*model, adapter, 2e-2);
  EXPECT_LT(result.curve.back().val_loss, result.curve.front().val_loss);
  const auto after = model->parameters();
  for (const auto& [name, frozen] :
       std::map<std::string, bool>{{"stored_in_out", true}, {"outer", true}, {"bias", false}, {"inner", false}})
    EXPECT_EQ(at::equal(after.at(name), before.at(name)), frozen) << name;
  const at::Tensor change = after.at("inner") - before.at("inner");
  const at::Tensor singular = std::get<1>(at::linalg_svd(change, false));
  EXPECT_LT(singular[1].item<double>(), 100 * kEpsilon * before.at("inner").norm().item<double>());
  for (const auto& [name, tensor] : after) EXPECT_FALSE(tensor.requires_grad()) << name;
}

TEST(Adapter, IsLeftAsItWasAtTheBestPoint) {
  const auto model = small_model();
  LowRankAdapter adapter(*model, spec_of({"inner"}), {"inner"}, 0);
  const at::Tensor before = model->parameters().at("inner").clone();
  const FinetuneResult result = train(*model, adapter, 3.0);  // a rate at which training goes astray
  ASSERT_LT(result.best_step, 40);
  const NamedTensors values = adapter.values();
  const at::Tensor folded = before + 1.5 * values.at("inner.lora_B").mm(values.at("inner.lora_A"));
  const at::Tensor kept = model->parameters().at("inner");
  EXPECT_LT((folded - kept).norm().item<double>(), 100 * kEpsilon * kept.norm().item<double>());
}

TEST(Adapter, TrainsItsFactorsAloneAfterTheHeads) {
  const auto model = small_model();
  const auto before = small_model()->parameters();
  LowRankAdapter adapter(*model, spec_of({"inner"}), {"inner"}, 0);
  const Data data;
  MemoryBatches train_source(data.inputs, data.target, 6, true), val(data.inputs, data.target, 12);
  FinetuneOptions options;
  options.steps = options.heads.steps = 10;
  SilentProgress progress;
  finetune_in_stages(*model, train_source, val, "cross_entropy", "accuracy", {"outer", "bias"}, options, progress,
                     &adapter);
  const auto after = model->parameters();
  EXPECT_TRUE(at::equal(after.at("stored_in_out"), before.at("stored_in_out")));
  EXPECT_FALSE(at::equal(after.at("outer"), before.at("outer")));
  EXPECT_FALSE(at::equal(after.at("inner"), before.at("inner")));
}

std::vector<std::string> targets_of(const AdapterSpec& spec) {
  const auto model = small_model();
  return adapter_targets(spec, model->parameter_names(), MemoryTensors(model->parameters()).infos(), "train.adapter");
}

TEST(Adapter, NamesTargetsInTheModelsOrder) {
  EXPECT_EQ(targets_of(spec_of({"outer", "in*"})), (std::vector<std::string>{"inner", "outer"}));
}

TEST(Adapter, RefusesTargetsThatHaveNoFactors) {
  EXPECT_THAT(input_error_of([] { targets_of(spec_of({})); }),
              AllOf(HasSubstr("train.adapter.targets"), HasSubstr("query.weight")));
  EXPECT_THAT(input_error_of([] { targets_of(spec_of({"iner"})); }), AllOf(HasSubstr("'iner'"), HasSubstr("inner")));
  EXPECT_THAT(input_error_of([] { targets_of(spec_of({"bias"})); }),
              AllOf(HasSubstr("'bias' is float64 [4]"), HasSubstr("two axes")));
  EXPECT_THAT(input_error_of([] { targets_of(spec_of({"outer"}, 5)); }),
              AllOf(HasSubstr("train.adapter.rank: 5"), HasSubstr("[4, 7]")));
}

TEST(Adapter, RefusesTargetsThatAreNotStoredAsLinearLayersAre) {
  const auto model = small_model();
  const Data data;
  Batch batch = batch_of(data.inputs);
  batch.target = data.target;
  const ScanResult scan = scan_layers(*model, batch, "cross_entropy");
  const auto check = [&](const std::string& target) {
    check_target_layers({target}, scan.layers, scan.unobserved, "train.adapter");
  };
  EXPECT_NO_THROW(check("inner"));
  EXPECT_THAT(input_error_of([&] { check("stored_in_out"); }),
              AllOf(HasSubstr("'stored_in_out'"), HasSubstr("[in, out]")));
  EXPECT_THAT(input_error_of([&] { check("elsewhere"); }),
              AllOf(HasSubstr("'elsewhere'"), HasSubstr("no layer has it")));
}

TEST(Trainable, LeavesWhatNoPatternNames) {
  const auto model = small_model();
  const auto before = small_model()->parameters();
  const Data data;
  MemoryBatches train_source(data.inputs, data.target, 6, true), val(data.inputs, data.target, 12);
  FinetuneOptions options;
  options.steps = 5;
  options.trainable = {"bias", "in*"};
  SilentProgress progress;
  const auto run = [&] {
    finetune(*model, train_source, val, "cross_entropy", "accuracy", {"inner"}, options, progress);
  };
  run();
  for (const auto& [name, tensor] : model->parameters())
    EXPECT_EQ(at::equal(tensor, before.at(name)), name != "bias") << name;
  options.trainable = {"bais"};
  EXPECT_THAT(input_error_of(run), AllOf(HasSubstr("trainable"), HasSubstr("'bais'"), HasSubstr("bias")));
}

}  // namespace
}  // namespace amalgam
