// What data, taps and statistics give together, held against exact matrices and invariances.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <limits>
#include <set>

#include "core/safetensors.h"
#include "datasets/dataset.h"
#include "datasets/loader.h"
#include "models/collect.h"
#include "models/layer_scan.h"
#include "stats/collector.h"
#include "temporary_folder.h"
#include "tests/apps/script_model.h"
#include "tests/models/memory_batches.h"

namespace amalgam {
namespace {

constexpr double kEpsilon = std::numeric_limits<double>::epsilon();
const std::set<StatisticKind> kAllKinds = {StatisticKind::kInputGram,        StatisticKind::kOutputGram,
                                           StatisticKind::kSquaredGradient,  StatisticKind::kMoments,
                                           StatisticKind::kReducedInputGram, StatisticKind::kReducedOutputGram,
                                           StatisticKind::kGradientGram};

at::Tensor numbers(at::IntArrayRef shape, uint64_t seed) {
  return at::randn(shape, RandomStream(seed, "numbers").generator(), at::TensorOptions(at::kDouble));
}

/// @param scale  of the numbers that were added up
void expect_near(const at::Tensor& actual, const at::Tensor& expected, const at::Tensor& scale, double epsilons,
                 const std::string& what) {
  ASSERT_EQ(actual.sizes(), expected.sizes()) << what;
  const double difference = (actual - expected).abs().max().item<double>();
  EXPECT_LE(difference, epsilons * kEpsilon * scale.abs().max().item<double>()) << what;
}

void expect_near(const at::Tensor& actual, const at::Tensor& expected, double epsilons, const std::string& what) {
  expect_near(actual, expected, expected, epsilons, what);
}

Statistics collect_all(ModelRunner& model, BatchSource& source, const CollectOptions& options) {
  Batch probe;
  source.reset();
  source.next(probe);
  const ScanResult scan = scan_layers(model, probe, options.loss);
  EXPECT_TRUE(scan.unobserved.empty()) << scan.unobserved.front();
  StatisticsCollector collector(scan.layers, MemoryTensors(model.parameters()).infos(), kAllKinds);
  source.reset();
  SilentProgress progress;
  collect_observations(model, scan, source, options, collector, progress);
  return collector.finish({});
}

/// The rows ∂f_nk / ∂ parameters of each example, the parameters side by side as [out, columns] and flattened.
/// @param layer  its weight [out, in] and perhaps its bias [out]
/// @return [N, outputs, out (in + 1)]
at::Tensor jacobian(ModelRunner& model, const at::Tensor& inputs, const std::vector<std::string>& layer) {
  std::vector<at::Tensor> variables;
  for (const std::string& name : layer) variables.push_back(model.parameters().at(name).requires_grad_(true));
  std::vector<at::Tensor> examples;
  for (int64_t n = 0; n < inputs.size(0); ++n) {
    const at::Tensor f = model.forward(batch_of(inputs.narrow(0, n, 1))).flatten();
    std::vector<at::Tensor> rows;
    for (int64_t k = 0; k < f.size(0); ++k) {
      std::vector<at::Tensor> columns;
      for (const at::Tensor& part : torch::autograd::grad({f[k]}, variables, {}, /*retain_graph=*/true))
        columns.push_back(part.reshape({part.size(0), -1}));
      rows.push_back(at::cat(columns, 1).flatten());
    }
    examples.push_back(at::stack(rows));
  }
  for (at::Tensor& variable : variables) variable.requires_grad_(false);
  return at::stack(examples);
}

/// The second derivative of an example's loss by its output, [outputs, outputs].
at::Tensor output_hessian(const LossSpec& loss, const at::Tensor& output, const at::Tensor& target) {
  switch (loss.kind()) {
    case LossSpec::Kind::kMeanSquaredError:
      return at::eye(output.numel(), at::kDouble);
    case LossSpec::Kind::kBinaryCrossEntropy:
      return (output.sigmoid() * (-output).sigmoid()).flatten().diag();
    default: {
      const int64_t classes = output.size(-1);
      const at::Tensor rows = output.reshape({-1, classes}).softmax(1), counts = target.reshape(-1).ge(0);
      std::vector<at::Tensor> blocks;
      for (int64_t t = 0; t < rows.size(0); ++t)
        blocks.push_back(counts[t].item<bool>() ? rows[t].diag() - rows[t].outer(rows[t])
                                                : at::zeros({classes, classes}, at::kDouble));
      return at::block_diag(blocks);
    }
  }
}

/// A linear network of three layers; `join` says what happens to positions before the last one.
std::unique_ptr<ModelRunner> linear_network(const std::string& join) {
  return script_model({{"a.weight", numbers({4, 3}, 1)},
                       {"a.bias", numbers({4}, 2)},
                       {"b.weight", numbers({5, 4}, 3)},
                       {"c.weight", numbers({2, 5}, 4)},
                       {"c.bias", numbers({2}, 5)}},
                      R"(
def forward(self, x):
    h = torch.linear(torch.linear(x, self.a.weight, self.a.bias), self.b.weight)
    return torch.linear()" +
                          join + ", self.c.weight, self.c.bias)\n");
}

/// The Kronecker product of every layer's factors is the Gauss-Newton matrix of the mean loss.
void expect_gauss_newton(ModelRunner& model, const at::Tensor& inputs, const at::Tensor& target, KroneckerForm form) {
  MemoryBatches source(inputs, target, 3);
  const Statistics statistics = collect_all(model, source, {.loss = "mean_squared_error", .labels = LabelMode::kExact});
  ASSERT_EQ(statistics.header().layers.layers.size(), 3U);
  for (const Layer& layer : statistics.header().layers.layers) {
    std::vector<std::string> names = {layer.weight};
    if (!layer.bias.empty()) names.push_back(layer.bias);
    const at::Tensor j = jacobian(model, inputs, names);  // [N, outputs, out (in + 1)]
    const at::Tensor exact = at::einsum("nki,nkj->ij", {j, j}) / static_cast<double>(inputs.size(0));
    const at::Tensor a = statistics.input_gram(layer, form)[0], b = statistics.output_gram(layer, form)[0];
    expect_near(at::kron(b, a), exact, 64, layer.name);
  }
}

TEST(KroneckerFactors, AreTheGaussNewtonMatrixOfLinearNetworksWithExactLabels) {
  for (const auto form : {KroneckerForm::kExpand, KroneckerForm::kReduce})  // one row an example: the same
    expect_gauss_newton(*linear_network("h"), numbers({7, 3}, 6), numbers({7, 2}, 7), form);
}

TEST(KroneckerFactors, ExpandedAreTheGaussNewtonMatrixWhereEachPositionHasItsOwnTarget) {
  expect_gauss_newton(*linear_network("h"), numbers({7, 4, 3}, 6), numbers({7, 4, 2}, 7), KroneckerForm::kExpand);
}

TEST(KroneckerFactors, ReducedAreTheGaussNewtonMatrixWherePositionsAreAveraged) {
  expect_gauss_newton(*linear_network("h.mean(1)"), numbers({7, 4, 3}, 6), numbers({7, 2}, 7), KroneckerForm::kReduce);
}

TEST(ExactLabels, GiveTheFisherOfVectorsAndItsDiagonalOfAllOfEachLossInANetworkThatIsNotLinear) {
  struct Case {
    LossSpec loss;
    at::Tensor target;
    int64_t examples, positions;
  };
  const at::Tensor tokens = at::arange(15).mul(7).remainder(4).view({5, 3}).sub(1);  // some are ignored
  const std::vector<Case> cases = {{"cross_entropy", at::arange(5).remainder(3), 5, 0},
                                   {"cross_entropy", tokens, 5, 3},
                                   {"binary_cross_entropy", at::zeros({5, 3}), 5, 0},
                                   {"mean_squared_error", numbers({5, 3}, 7), 5, 0}};
  for (const Case& one : cases) {
    const auto model = script_model({{"a.weight", numbers({4, 6}, 1)},
                                     {"a.bias", numbers({4}, 2)},
                                     {"b.weight", numbers({3, 4}, 3)},
                                     {"b.bias", numbers({3}, 4)}},
                                    R"(
def forward(self, x):
    return torch.linear(torch.tanh(torch.linear(x, self.a.weight, self.a.bias)), self.b.weight, self.b.bias)
)");
    const std::vector<int64_t> shape =
        one.positions > 0 ? std::vector<int64_t>{5, one.positions, 6} : std::vector<int64_t>{5, 6};
    const at::Tensor inputs = numbers(shape, 6) * 0.5;
    MemoryBatches source(inputs, one.target, 2);
    source.reset();
    const Statistics statistics = collect_all(*model, source, {.loss = one.loss, .labels = LabelMode::kExact});
    for (const std::string name : {"a.weight", "a.bias", "b.weight", "b.bias"}) {
      const at::Tensor j = jacobian(*model, inputs, {name});
      at::Tensor expected = at::zeros({j.size(2), j.size(2)}, at::kDouble);
      for (int64_t n = 0; n < 5; ++n) {
        const at::Tensor f = model->forward(batch_of(inputs.narrow(0, n, 1))).detach()[0];
        expected += at::einsum("ki,kl,lj->ij", {j[n], output_hessian(one.loss, f, one.target[n]), j[n]});
      }
      const at::Tensor found = statistics.squared_gradient(name);
      expect_near(found.flatten(), expected.diagonal() / 5.0, 256, one.loss.name + " " + name);
      if (name.ends_with(".bias"))
        expect_near(statistics.gradient_gram(name), expected / 5.0, 256, one.loss.name + " " + name);
    }
  }
}

/// Five sentences of 2 to 6 tokens, padded to `width`: {tokens, attention mask, targets}.
NamedTensors padded_sentences(int64_t width) {
  const at::Tensor lengths = at::tensor({6, 4, 2, 5, 3}, at::kLong), place = at::arange(width).unsqueeze(0);
  const at::Tensor kept = place.lt(lengths.unsqueeze(1));  // [5, width]
  const at::Tensor text = (at::arange(5).unsqueeze(1) * 11 + place * 5).remainder(9);
  return {{"input.tokens", text.masked_fill(kept.logical_not(), 8)},
          {"input.attention_mask", kept.to(at::kLong)},
          {"target", text.mul(2).add(1).remainder(4).masked_fill(kept.logical_not(), -100)}};
}

std::unique_ptr<ModelRunner> token_model() {
  return script_model({{"words.weight", numbers({9, 4}, 1)},
                       {"places", numbers({12, 4}, 2)},
                       {"query.weight", numbers({4, 4}, 3)},
                       {"key.weight", numbers({4, 4}, 4)},
                       {"value.weight", numbers({4, 4}, 5)},
                       {"norm.weight", numbers({4}, 6)},
                       {"norm.bias", numbers({4}, 7)},
                       {"head.weight", numbers({4, 4}, 8)},
                       {"head.bias", numbers({4}, 9)}},
                      R"(
def forward(self, tokens, attention_mask):
    h = torch.embedding(self.words.weight, tokens) + self.places[0:tokens.size(1)]
    scores = torch.linear(h, self.query.weight).matmul(torch.linear(h, self.key.weight).transpose(1, 2))
    scores = scores.masked_fill(attention_mask.unsqueeze(1).eq(0), -1e30)
    h = h + torch.softmax(scores, -1).matmul(torch.linear(h, self.value.weight))
    h = torch.layer_norm(h, [4], self.norm.weight, self.norm.bias)
    return torch.linear(torch.tanh(h), self.head.weight, self.head.bias)
)");
}

NamedTensors sums_of_sentences(int64_t width, LabelMode labels, const std::string& mask = "auto") {
  const TemporaryFolder folder;
  write_safetensors(folder / "train.safetensors", padded_sentences(width));
  DataSpec spec;
  spec.format = "tensors";
  spec.root = folder.path().string();
  spec.val_fraction = 0;
  spec.mask = mask;
  const auto data = open_dataset(spec, Split::kTrain, /*seed=*/1, "left");
  Loader loader(*data, {.batch = 3});
  const auto model = token_model();
  const Statistics statistics = collect_all(*model, loader, {.labels = labels, .seed = 5, .task = "left"});
  NamedTensors sums;
  for (const auto& [name, info] : statistics.sums().infos()) sums.emplace(name, statistics.sums().get(name));
  return sums;
}

TEST(Padding, ChangesNoStatistic) {
  for (const LabelMode labels : {LabelMode::kTrue, LabelMode::kSampled, LabelMode::kExact}) {
    const NamedTensors narrow = sums_of_sentences(6, labels), wide = sums_of_sentences(9, labels);
    ASSERT_EQ(narrow.size(), wide.size());
    ASSERT_TRUE(narrow.contains("query/input_gram") && narrow.contains("head/output_gram"));
    EXPECT_EQ(narrow.at("head/rows").item<int64_t>(), 20);
    for (const auto& [name, sum] : narrow) {
      // The gradients of an example's keys add up to zero: what is left is the rounding of the rows.
      const bool cancels = name.ends_with("/reduced_output_gram");
      const std::string rows = cancels ? name.substr(0, name.rfind('/')) + "/output_gram" : name;
      expect_near(wide.at(name).to(at::kDouble), sum.to(at::kDouble), narrow.at(rows).to(at::kDouble), 256,
                  name + " " + name_of(labels));
    }
  }
}

TEST(Padding, CountsWhereTheMaskIsTurnedOff) {
  EXPECT_EQ(sums_of_sentences(9, LabelMode::kTrue, "none").at("head/rows").item<int64_t>(), 45);
}

}  // namespace
}  // namespace amalgam
