#include "models/batch_norm_reset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "expect_error.h"
#include "tests/models/tap_models.h"

namespace amalgam {
namespace {

using namespace test;
using ::testing::HasSubstr;

constexpr double kEpsilon = 1e-3;

/// Two batch norms in evaluation mode with a ReLU between them, over the channels of [N, 4, 3].
TapModel two_norms() {
  return {"TwoNorms",
          {{"first.weight", numbers({4}, 1)},
           {"first.bias", numbers({4}, 2)},
           {"second.weight", numbers({4}, 3)},
           {"second.bias", numbers({4}, 4)}},
          {{"first.mean", numbers({4}, 5)},
           {"first.variance", numbers({4}, 6).exp()},
           {"second.mean", numbers({4}, 7)},
           {"second.variance", numbers({4}, 8).exp()}},
          R"(
def forward(self, x: Tensor) -> Tensor:
    h = torch.batch_norm(x, self.first.weight, self.first.bias, self.first.mean, self.first.variance, False, 0.1, 1e-3, False)
    h = torch.relu(h)
    h = torch.batch_norm(h, self.second.weight, self.second.bias, self.second.mean, self.second.variance, False, 0.1, 1e-3, False)
    return h.mean(2)
)",
          [](const NamedTensors& p, const Inputs& x) {
            at::Tensor h = at::batch_norm(x[0], p.at("first.weight"), p.at("first.bias"), p.at("first.mean"),
                                          p.at("first.variance"), false, 0.1, kEpsilon, false);
            h = at::batch_norm(at::relu(h), p.at("second.weight"), p.at("second.bias"), p.at("second.mean"),
                               p.at("second.variance"), false, 0.1, kEpsilon, false);
            return h.mean(2);
          },
          make_batch({numbers({8, 4, 3}, 9)}, 4)};
}

struct Moments {
  std::vector<double> mean, variance;  // unbiased
};

Moments moments_of(const at::Tensor& x) {
  Moments moments;
  for (int64_t c = 0; c < x.size(1); ++c) {
    const at::Tensor values = x.select(1, c).flatten();
    double sum = 0, squares = 0;
    const auto n = static_cast<double>(values.numel());
    for (int64_t i = 0; i < values.numel(); ++i) sum += values[i].item<double>();
    for (int64_t i = 0; i < values.numel(); ++i) squares += std::pow(values[i].item<double>() - sum / n, 2);
    moments.mean.push_back(sum / n);
    moments.variance.push_back(squares / (n - 1));
  }
  return moments;
}

/// x normalised by its own moments, biased, as a layer in training does it.
at::Tensor normalised(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const auto moments = moments_of(x);
  const auto n = static_cast<double>(x.size(0) * x.size(2));
  at::Tensor y = x.clone();
  for (size_t c = 0; c < moments.mean.size(); ++c) {
    const auto channel = static_cast<int64_t>(c);
    y.select(1, channel)
        .sub_(moments.mean[c])
        .div_(std::sqrt(moments.variance[c] * (n - 1) / n + kEpsilon))
        .mul_(weight[channel])
        .add_(bias[channel]);
  }
  return y;
}

/// The formula of the header over batches of these sizes.
Moments pooled(const std::vector<at::Tensor>& batches) {
  Moments all = {std::vector<double>(4, 0.0), std::vector<double>(4, 0.0)};
  double examples = 0;
  for (const at::Tensor& batch : batches) examples += static_cast<double>(batch.size(0));
  for (const at::Tensor& batch : batches)
    for (size_t c = 0; c < 4; ++c)
      all.mean[c] += static_cast<double>(batch.size(0)) / examples * moments_of(batch).mean[c];
  for (const at::Tensor& batch : batches)
    for (size_t c = 0; c < 4; ++c) {
      const auto own = moments_of(batch);
      all.variance[c] +=
          static_cast<double>(batch.size(0)) / examples * (own.variance[c] + std::pow(own.mean[c] - all.mean[c], 2));
    }
  return all;
}

void expect_moments(const NamedTensors& buffers, const std::string& layer, const Moments& expected) {
  EXPECT_TRUE(nearly_equal(buffers.at(layer + ".mean"), at::tensor(expected.mean, at::kDouble))) << layer;
  EXPECT_TRUE(nearly_equal(buffers.at(layer + ".variance"), at::tensor(expected.variance, at::kDouble))) << layer;
}

TEST(BatchNormReset, PoolsTheMomentsOfBatchesThatNormaliseThemselves) {
  const TapModel model = two_norms();
  for (const Made made : {Made::kScripted, Made::kTraced})
    for (const int64_t size : {8, 3, 2}) {
      const auto runner = make_runner(model, made);
      BatchSlices source(model.data, size);
      SilentProgress progress;
      BatchNormReset reset;
      reset.add(*runner, source, progress);
      std::vector<at::Tensor> first, second;
      const auto parameters = runner->parameters();
      for (int64_t begin = 0; begin < 8; begin += size) {
        first.push_back(model.data.inputs[0].slice(0, begin, std::min<int64_t>(begin + size, 8)));
        second.push_back(
            at::relu(normalised(first.back(), parameters.at("first.weight"), parameters.at("first.bias"))));
      }
      const auto buffers = reset.buffers();
      EXPECT_EQ(buffers.size(), 4U);
      expect_moments(buffers, "first", pooled(first));
      expect_moments(buffers, "second", pooled(second));
    }
}

TEST(BatchNormReset, LeavesTheModelAsItWas) {
  const TapModel model = two_norms();
  const auto runner = make_runner(model);
  NamedTensors before = runner->buffers();
  for (auto& [name, tensor] : before) tensor = tensor.clone();
  const at::Tensor output = runner->forward(model.data);
  BatchSlices source(model.data, 4);
  SilentProgress progress;
  BatchNormReset reset;
  reset.add(*runner, source, progress);
  for (const auto& [name, tensor] : runner->buffers()) EXPECT_TRUE(at::equal(tensor, before.at(name))) << name;
  EXPECT_TRUE(at::equal(runner->forward(model.data), output));
}

TEST(BatchNormReset, AddsUpOverModels) {
  const TapModel model = two_norms();
  const auto runner = make_runner(model), other = make_runner(model);
  BatchSlices source(model.data, 4);
  Batch halves[] = {narrow(model.data, 0, 4), narrow(model.data, 4, 4)};
  BatchSlices first(halves[0], 4), second(halves[1], 4);
  SilentProgress progress;
  BatchNormReset whole, parts;
  whole.add(*runner, source, progress);
  parts.add(*runner, first, progress);
  parts.add(*other, second, progress);
  for (const auto& [name, tensor] : whole.buffers()) EXPECT_TRUE(at::equal(tensor, parts.buffers().at(name))) << name;
}

TEST(BatchNormReset, RefusesAModelWithoutBatchNorms) {
  TapModel model = two_norms();
  model.source = R"(
def forward(self, x: Tensor) -> Tensor:
    return (x * self.first.weight.view([4, 1])).mean(2)
)";
  const auto runner = make_runner(model);
  BatchSlices source(model.data, 4);
  SilentProgress progress;
  BatchNormReset reset;
  EXPECT_THAT(input_error_of([&] { reset.add(*runner, source, progress); }), HasSubstr("no batch norm that keeps"));
}

TEST(BatchNormReset, PoolsEveryCallOfABatchNormThatRunsSeveralTimes) {
  TapModel model = two_norms();
  model.data = make_batch({numbers({8, 4, 3}, 9), 5 + 2 * numbers({8, 4, 3}, 10)}, 4);
  model.source = R"(
def encode(self, x: Tensor) -> Tensor:
    return torch.batch_norm(x, self.first.weight, self.first.bias, self.first.mean, self.first.variance, False, 0.1, 1e-3, False)

def forward(self, a: Tensor, b: Tensor) -> Tensor:
    return torch.relu(self.encode(a)).mean(2) + torch.relu(self.encode(b)).mean(2)
)";
  const auto runner = make_runner(model);
  BatchSlices source(model.data, 4);
  SilentProgress progress;
  BatchNormReset reset;
  reset.add(*runner, source, progress);
  std::vector<at::Tensor> inputs;
  for (const at::Tensor& input : model.data.inputs)
    for (const int64_t begin : {0, 4}) inputs.push_back(input.narrow(0, begin, 4));
  expect_moments(reset.buffers(), "first", pooled(inputs));
}

TEST(BatchNormReset, LeavesOutBatchesOfOneValueOfEachChannel) {
  TapModel model = two_norms();
  model.data = make_batch({numbers({7, 4, 1}, 9)}, 4, {7});
  const auto runner = make_runner(model);
  Messages progress;
  BatchSlices pairs(model.data, 2);  // and the last example alone
  BatchNormReset reset;
  reset.add(*runner, pairs, progress);
  std::vector<at::Tensor> inputs;
  for (const int64_t begin : {0, 2, 4}) inputs.push_back(model.data.inputs[0].narrow(0, begin, 2));
  expect_moments(reset.buffers(), "first", pooled(inputs));
  EXPECT_THAT(progress.texts, testing::ElementsAre(HasSubstr("1 of 4 batches")));

  BatchSlices singles(model.data, 1);
  BatchNormReset none;
  EXPECT_THAT(input_error_of([&] { none.add(*runner, singles, progress); }), HasSubstr("`evaluate.batch`"));
}

}  // namespace
}  // namespace amalgam
