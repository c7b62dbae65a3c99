#include "tests/models/tap_model_zoo.h"

#include <torch/torch.h>

namespace amalgam::test {
namespace {

constexpr int64_t kExamples = 8, kClasses = 3;

TapModel linear() {
  return {
      "Linear",
      {{"first.weight", numbers({5, 4}, 1)}, {"first.bias", numbers({5}, 2)}, {"second.weight", numbers({3, 5}, 3)}},
      {},
      R"(
def forward(self, x):
    h = torch.relu_(torch.linear(x, self.first.weight, self.first.bias))
    return torch.linear(h, self.second.weight)
)",
      [](const NamedTensors& p, const Inputs& x) {
        at::Tensor h = at::linear(x[0], p.at("first.weight"), p.at("first.bias"));
        h = at::relu_(h);
        return at::linear(h, p.at("second.weight"));
      },
      make_batch({numbers({kExamples, 4}, 9)}, kClasses)};
}

/// A linear layer with bias on [N, T, d] gives a view, which is then written into.
TapModel tokens() {
  return {"Tokens",
          {{"first.weight", numbers({5, 4}, 1)},
           {"first.bias", numbers({5}, 2)},
           {"second.weight", numbers({3, 5}, 3)},
           {"second.bias", numbers({3}, 4)}},
          {},
          R"(
def forward(self, x):
    h = torch.linear(x, self.first.weight, self.first.bias)
    h.mul_(2.0)
    h = torch.relu_(h)
    return torch.linear(h, self.second.weight, self.second.bias)
)",
          [](const NamedTensors& p, const Inputs& x) {
            at::Tensor h = at::linear(x[0], p.at("first.weight"), p.at("first.bias"));
            h.mul_(2.0);
            h = at::relu_(h);
            return at::linear(h, p.at("second.weight"), p.at("second.bias"));
          },
          make_batch({numbers({kExamples, 6, 4}, 9)}, kClasses, {kExamples, 6})};
}

TapModel convolution() {
  return {"Convolution",
          {{"first.weight", numbers({6, 2, 3, 2}, 1)},
           {"first.bias", numbers({6}, 2)},
           {"same.weight", numbers({4, 6, 3, 3}, 3)},
           {"head.weight", numbers({3, 4}, 4)}},
          {},
          R"(
def forward(self, x):
    h = torch.conv2d(x, self.first.weight, self.first.bias, [2, 1], [1, 2], [1, 2], 2)
    h = torch.relu_(h)
    h = torch.conv2d(h, self.same.weight, None, [1, 1], "same")
    return torch.linear(torch.relu_(h).mean([2, 3]), self.head.weight)
)",
          [](const NamedTensors& p, const Inputs& x) {
            at::Tensor h =
                at::conv2d(x[0], p.at("first.weight"), p.at("first.bias"), {2, 1}, {1, 2}, at::IntArrayRef{1, 2}, 2);
            h = at::relu_(h);
            h = at::conv2d(h, p.at("same.weight"), {}, {1, 1}, "same");
            return at::linear(at::relu(h).mean(at::IntArrayRef{2, 3}), p.at("head.weight"));
          },
          make_batch({numbers({kExamples, 4, 7, 6}, 9)}, kClasses)};
}

TapModel one_and_three_dimensional_convolution() {
  return {"Convolutions",
          {{"line.weight", numbers({4, 2, 3}, 1)},
           {"line.bias", numbers({4}, 2)},
           {"space.weight", numbers({3, 2, 2, 1, 2}, 3)}},
          {},
          R"(
def forward(self, x):
    h = torch.tanh(torch.conv1d(x, self.line.weight, self.line.bias, [1], [1]))
    h = torch.conv3d(h.reshape([-1, 2, 2, 2, 3]), self.space.weight)
    return h.flatten(2).mean(2)
)",
          [](const NamedTensors& p, const Inputs& x) {
            at::Tensor h = at::tanh(at::conv1d(x[0], p.at("line.weight"), p.at("line.bias"), {1}, {1}));
            h = at::conv3d(h.reshape({-1, 2, 2, 2, 3}), p.at("space.weight"));
            return h.flatten(2).mean(2);
          },
          make_batch({numbers({kExamples, 2, 6}, 9)}, kClasses)};
}

TapModel embedding() {
  const at::Tensor words = at::arange(kExamples * 5).mul(5).remainder(7).view({kExamples, 5});
  return {"Embedding",
          {{"words.weight", numbers({7, 4}, 1)},
           {"norm.weight", numbers({4}, 2)},
           {"norm.bias", numbers({4}, 3)},
           {"head.weight", numbers({3, 4}, 4)},
           {"head.bias", numbers({3}, 5)}},
          {},
          R"(
def forward(self, x):
    h = torch.embedding(self.words.weight, x, 2)
    h = torch.layer_norm(h, [4], self.norm.weight, self.norm.bias, 1e-3)
    return torch.linear(torch.tanh(h).mean(1), self.head.weight, self.head.bias)
)",
          [](const NamedTensors& p, const Inputs& x) {
            at::Tensor h = at::embedding(p.at("words.weight"), x[0], 2);
            h = at::layer_norm(h, {4}, p.at("norm.weight"), p.at("norm.bias"), 1e-3);
            return at::linear(at::tanh(h).mean(1), p.at("head.weight"), p.at("head.bias"));
          },
          make_batch({words}, kClasses)};
}

TapModel norms() {
  return {"Norms",
          {{"batch.weight", numbers({4}, 1)},
           {"batch.bias", numbers({4}, 2)},
           {"image.weight", numbers({2, 3}, 3)},
           {"head.weight", numbers({3, 4}, 4)}},
          {{"batch.mean", numbers({4}, 5)}, {"batch.variance", numbers({4}, 6).exp()}},
          R"(
def forward(self, x):
    h = torch.batch_norm(x, self.batch.weight, self.batch.bias, self.batch.mean, self.batch.variance, False, 0.1, 1e-3, False)
    h = torch.layer_norm(torch.tanh(h), [2, 3], self.image.weight)
    return torch.linear(torch.tanh(h).mean([2, 3]), self.head.weight)
)",
          [](const NamedTensors& p, const Inputs& x) {
            at::Tensor h = at::batch_norm(x[0], p.at("batch.weight"), p.at("batch.bias"), p.at("batch.mean"),
                                          p.at("batch.variance"), false, 0.1, 1e-3, false);
            h = at::layer_norm(at::tanh(h), {2, 3}, p.at("image.weight"));
            return at::linear(at::tanh(h).mean(at::IntArrayRef{2, 3}), p.at("head.weight"));
          },
          make_batch({numbers({kExamples, 4, 2, 3}, 9)}, kClasses)};
}

/// A table of positions longer than the sequence, an addition in place on a view, the bias of a decomposed linear
/// layer.
TapModel added_parameters() {
  return {"Added",
          {{"positions", numbers({1, 9, 4}, 1)},
           {"shift", numbers({5, 1}, 2)},
           {"linear.weight", numbers({3, 4}, 3)},
           {"linear.bias", numbers({3}, 4)}},
          {},
          R"(
def forward(self, x):
    h = x + self.positions[:, 2:7]
    h[:, :, 1:3].add_(self.shift)
    h = torch.tanh_(h)
    return torch.matmul(h.mean(1), self.linear.weight.t()) + self.linear.bias
)",
          [](const NamedTensors& p, const Inputs& x) {
            at::Tensor h = x[0] + p.at("positions").slice(1, 2, 7);
            h.slice(2, 1, 3).add_(p.at("shift"));
            h = at::tanh_(h);
            return at::matmul(h.mean(1), p.at("linear.weight").t()) + p.at("linear.bias");
          },
          make_batch({numbers({kExamples, 5, 4}, 9)}, kClasses)};
}

TapModel used_twice() {
  return {
      "Twice",
      {{"shared.weight", numbers({4, 4}, 1)}, {"shared.bias", numbers({4}, 2)}, {"head.weight", numbers({3, 4}, 3)}},
      {},
      R"(
def forward(self, x):
    h = torch.tanh(torch.linear(x, self.shared.weight, self.shared.bias))
    h = torch.tanh(torch.linear(h, self.shared.weight, self.shared.bias))
    return torch.linear(h, self.head.weight)
)",
      [](const NamedTensors& p, const Inputs& x) {
        at::Tensor h = at::tanh(at::linear(x[0], p.at("shared.weight"), p.at("shared.bias")));
        h = at::tanh(at::linear(h, p.at("shared.weight"), p.at("shared.bias")));
        return at::linear(h, p.at("head.weight"));
      },
      make_batch({numbers({kExamples, 4}, 9)}, kClasses)};
}

/// Query, key and value are slices of one weight and bias.
TapModel packed() {
  return {"Packed",
          {{"attention.weight", numbers({12, 4}, 1)},
           {"attention.bias", numbers({12}, 2)},
           {"head.weight", numbers({3, 4}, 3)}},
          {},
          R"(
def forward(self, x):
    w, b = self.attention.weight, self.attention.bias
    wq, wk, wv = torch.chunk(w, 3)
    q = torch.linear(x, wq, b[0:4])
    k = torch.linear(x, wk, b[4:8])
    v = torch.linear(x, wv, b[8:12])
    h = torch.softmax(q.matmul(k.transpose(1, 2)), -1).matmul(v)
    return torch.linear(h.mean(1), self.head.weight)
)",
          [](const NamedTensors& p, const Inputs& x) {
            const auto w = p.at("attention.weight").chunk(3), b = p.at("attention.bias").chunk(3);
            const at::Tensor q = at::linear(x[0], w[0], b[0]), k = at::linear(x[0], w[1], b[1]);
            const at::Tensor h = at::softmax(q.matmul(k.transpose(1, 2)), -1).matmul(at::linear(x[0], w[2], b[2]));
            return at::linear(h.mean(1), p.at("head.weight"));
          },
          make_batch({numbers({kExamples, 5, 4}, 9)}, kClasses)};
}

/// Weights stored [in, out], by addmm, mm, matmul and bmm; one is packed.
TapModel transposed() {
  return {"Transposed",
          {{"first.weight", numbers({4, 6}, 1)},
           {"first.bias", numbers({6}, 2)},
           {"second.weight", numbers({3, 5}, 3)},
           {"third.weight", numbers({5, 3}, 4)},
           {"fourth.weight", numbers({4, 3}, 5)},
           {"fourth.bias", numbers({4}, 6)},
           {"fifth.weight", numbers({4, 3}, 7)}},
          {},
          R"(
def forward(self, x):
    w = self.first.weight
    a = torch.tanh(torch.addmm(self.first.bias[0:3], x, w[:, 0:3]))
    b = torch.tanh(torch.addmm(self.first.bias[3:6], x, w[:, 3:6]))
    h = torch.tanh(torch.mm(a * b, self.second.weight))
    h = torch.tanh(torch.matmul(h, self.third.weight))
    h = torch.tanh(torch.addmm(self.fourth.bias, h, self.fourth.weight.t()))
    batches = h.unsqueeze(1).expand([-1, 2, -1])
    return torch.bmm(batches, self.fifth.weight.unsqueeze(0).expand([h.size(0), -1, -1])).sum(1)
)",
          [](const NamedTensors& p, const Inputs& x) {
            const auto w = p.at("first.weight").chunk(2, 1), c = p.at("first.bias").chunk(2);
            const at::Tensor a = at::tanh(at::addmm(c[0], x[0], w[0])), b = at::tanh(at::addmm(c[1], x[0], w[1]));
            at::Tensor h = at::tanh(at::mm(a * b, p.at("second.weight")));
            h = at::tanh(at::matmul(h, p.at("third.weight")));
            h = at::tanh(at::addmm(p.at("fourth.bias"), h, p.at("fourth.weight").t()));
            // `bmm` with a weight expanded to the batch would write the batch size into a trace made in C++.
            return at::matmul(h.unsqueeze(1).expand({-1, 2, -1}), p.at("fifth.weight")).sum(1);
          },
          make_batch({numbers({kExamples, 4}, 9)}, kClasses)};
}

/// Examples on the second axis, and folded into one axis with the positions, in both orders.
TapModel layouts() {
  return {"Layouts",
          {{"inside.weight", numbers({4, 4}, 1)},
           {"inside.bias", numbers({4}, 2)},
           {"outside.weight", numbers({4, 4}, 3)},
           {"shift", numbers({4}, 4)},
           {"second.weight", numbers({4, 4}, 5)},
           {"norm.weight", numbers({4}, 6)},
           {"head.weight", numbers({3, 4}, 7)}},
          {},
          R"(
def forward(self, x):
    n, t, d = x.size(0), 5, 4
    h = torch.tanh(torch.linear(x.transpose(0, 1).reshape([-1, d]), self.inside.weight, self.inside.bias))
    h = h.view([t, -1, d])
    h = torch.tanh(torch.linear(h, self.second.weight))
    h = h.transpose(0, 1).reshape([-1, d])
    h = torch.tanh(torch.linear(h, self.outside.weight) + self.shift)
    h = torch.layer_norm(h, [4], self.norm.weight)
    return torch.linear(h.view([-1, t, d]).tanh().mean(1), self.head.weight)
)",
          [](const NamedTensors& p, const Inputs& x) {
            at::Tensor h = x[0].transpose(0, 1).reshape({-1, 4});
            h = at::tanh(at::linear(h, p.at("inside.weight"), p.at("inside.bias"))).view({5, -1, 4});
            h = at::tanh(at::linear(h, p.at("second.weight"))).transpose(0, 1).reshape({-1, 4});
            h = at::tanh(at::linear(h, p.at("outside.weight")) + p.at("shift"));
            h = at::layer_norm(h, {4}, p.at("norm.weight"));
            return at::linear(h.view({-1, 5, 4}).tanh().mean(1), p.at("head.weight"));
          },
          make_batch({numbers({kExamples, 5, 4}, 9)}, kClasses)};
}

/// The mask takes positions out of the mean; ignored targets out of the loss.
TapModel masked() {
  TapModel model{"Masked",
                 {{"first.weight", numbers({5, 4}, 1)},
                  {"first.bias", numbers({5}, 2)},
                  {"head.weight", numbers({3, 5}, 3)},
                  {"head.bias", numbers({3}, 4)}},
                 {},
                 R"(
def forward(self, x, mask):
    h = torch.tanh(torch.linear(x, self.first.weight, self.first.bias))
    h = (h * mask.unsqueeze(2)).sum(1)
    return torch.linear(h, self.head.weight, self.head.bias)
)",
                 [](const NamedTensors& p, const Inputs& x) {
                   at::Tensor h = at::tanh(at::linear(x[0], p.at("first.weight"), p.at("first.bias")));
                   h = (h * x[1].unsqueeze(2)).sum(1);
                   return at::linear(h, p.at("head.weight"), p.at("head.bias"));
                 },
                 {}};
  const at::Tensor mask = at::arange(kExamples * 5).view({kExamples, 5}).remainder(3).ne(0);
  model.data = make_batch({numbers({kExamples, 5, 4}, 9), mask.to(at::kDouble)}, kClasses);
  model.data.mask = mask;
  model.data.target[4] = -1;
  return model;
}

}  // namespace

std::vector<TapModel> tap_model_zoo() {
  std::vector<TapModel> models = {
      linear(),    tokens(),     convolution(),      one_and_three_dimensional_convolution(),
      embedding(), norms(),      added_parameters(), used_twice(),
      packed(),    transposed(), layouts(),          masked()};
  for (TapModel& model : operator_models()) models.push_back(std::move(model));
  return models;
}

TapModel zoo_model(const std::string& name) {
  for (const TapModel& model : tap_model_zoo())
    if (model.name == name) return model;
  TORCH_CHECK(false, "no model ", name);
}

}  // namespace amalgam::test
