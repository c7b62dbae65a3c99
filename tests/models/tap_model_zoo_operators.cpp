#include <torch/torch.h>

#include "tests/models/tap_model_zoo.h"

namespace amalgam::test {
namespace {

constexpr int64_t kExamples = 8, kClasses = 3;

/// Slices, transposes and several axes of a weight; units that are not the last axis of the output.
TapModel einsum() {
  return {
      "Einsum",
      {{"packed.weight", numbers({8, 4}, 1)},
       {"second.weight", numbers({4, 4}, 2)},
       {"heads.weight", numbers({6, 4}, 3)},
       {"joined.weight", numbers({6, 3}, 4)}},
      {},
      R"(
def forward(self, x):
    w = self.packed.weight
    a = torch.einsum("bti,oi->tbo", [x, w[0:4]])
    b = torch.einsum("oi, bti -> bot", [w[4:8], x])
    h = torch.tanh(a.transpose(0, 1)) * torch.tanh(b.transpose(1, 2))
    h = torch.tanh(torch.einsum("...i,io->...o", [h, self.second.weight]))
    h = torch.tanh(torch.einsum("bti,hdi->bhtd", [h, self.heads.weight.view([2, 3, 4])]))
    h = torch.einsum("bhtd,hdo->bto", [h, self.joined.weight.view([2, 3, 3])])
    return torch.tanh(h).mean(1)
)",
      [](const NamedTensors& p, const Inputs& x) {
        const auto w = p.at("packed.weight").chunk(2);
        const at::Tensor a = at::einsum("bti,oi->tbo", {x[0], w[0]}), b = at::einsum("oi, bti -> bot", {w[1], x[0]});
        at::Tensor h = at::tanh(a.transpose(0, 1)) * at::tanh(b.transpose(1, 2));
        h = at::tanh(at::einsum("...i,io->...o", {h, p.at("second.weight")}));
        h = at::tanh(at::einsum("bti,hdi->bhtd", {h, p.at("heads.weight").view({2, 3, 4})}));
        h = at::einsum("bhtd,hdo->bto", {h, p.at("joined.weight").view({2, 3, 3})});
        return at::tanh(h).mean(1);
      },
      make_batch({numbers({kExamples, 5, 4}, 9)}, kClasses)};
}

/// Weights as the left factor, over features and over tokens; baddbmm; a bias that is a column.
TapModel left_factors() {
  return {"Left",
          {{"features.weight", numbers({4, 4}, 1)},
           {"tokens.weight", numbers({5, 5}, 2)},
           {"batched.weight", numbers({4, 4}, 3)},
           {"batched.bias", numbers({4}, 4)},
           {"column.weight", numbers({4, 4}, 5)},
           {"column.bias", numbers({4, 1}, 6)},
           {"head.weight", numbers({3, 4}, 7)}},
          {},
          R"(
def forward(self, x):
    h = torch.tanh(torch.matmul(self.features.weight, x.transpose(1, 2))).transpose(1, 2)
    h = torch.tanh(torch.matmul(self.tokens.weight, h))
    bias = self.batched.bias.view([1, 1, 4])
    h = torch.tanh(torch.baddbmm(bias, h.reshape([1, -1, 4]), self.batched.weight.unsqueeze(0)))
    h = h.view([-1, 5, 4]).mean(1)
    h = torch.tanh(torch.addmm(self.column.bias, self.column.weight, h.t()))
    return torch.mm(self.head.weight, h).t()
)",
          [](const NamedTensors& p, const Inputs& x) {
            at::Tensor h = at::tanh(at::matmul(p.at("features.weight"), x[0].transpose(1, 2))).transpose(1, 2);
            h = at::tanh(at::matmul(p.at("tokens.weight"), h));
            const at::Tensor bias = p.at("batched.bias").view({1, 1, 4});
            h = at::tanh(at::baddbmm(bias, h.reshape({1, -1, 4}), p.at("batched.weight").unsqueeze(0)));
            h = h.view({-1, 5, 4}).mean(1);
            h = at::tanh(at::addmm(p.at("column.bias"), p.at("column.weight"), h.t()));
            return at::mm(p.at("head.weight"), h).t();
          },
          make_batch({numbers({kExamples, 5, 4}, 9)}, kClasses)};
}

/// A layer scale, also in place and on channels, a norm written out, `rms_norm`, a factor of one number.
TapModel scales() {
  return {"Scales",
          {{"layer_scale", numbers({4}, 1)},
           {"in_place", numbers({1, 5, 4}, 2)},
           {"channels", numbers({4, 1}, 3)},
           {"written.weight", numbers({4}, 4)},
           {"norm.weight", numbers({4}, 5)},
           {"temperature", numbers({}, 6)},
           {"head.weight", numbers({3, 4}, 7)}},
          {},
          R"(
def forward(self, x):
    h = x * self.layer_scale
    h.mul_(self.in_place)
    h = torch.tanh((h.transpose(1, 2) * self.channels).transpose(1, 2))
    h = self.written.weight * (h * torch.rsqrt(h.pow(2).mean(-1, True) + 1e-3))
    h = torch.rms_norm(torch.tanh(h), [4], self.norm.weight, 1e-3)
    return torch.linear(torch.tanh(h).mean(1), self.head.weight) * self.temperature
)",
          [](const NamedTensors& p, const Inputs& x) {
            at::Tensor h = x[0] * p.at("layer_scale");
            h.mul_(p.at("in_place"));
            h = at::tanh((h.transpose(1, 2) * p.at("channels")).transpose(1, 2));
            h = p.at("written.weight") * (h * at::rsqrt(h.pow(2).mean(-1, true) + 1e-3));
            h = at::rms_norm(at::tanh(h), {4}, p.at("norm.weight"), 1e-3);
            return at::linear(at::tanh(h).mean(1), p.at("head.weight")) * p.at("temperature");
          },
          make_batch({numbers({kExamples, 5, 4}, 9)}, kClasses)};
}

TapModel channel_norms() {
  return {"ChannelNorms",
          {{"group.weight", numbers({4}, 1)},
           {"group.bias", numbers({4}, 2)},
           {"instance.weight", numbers({4}, 3)},
           {"instance.bias", numbers({4}, 4)},
           {"running.weight", numbers({4}, 5)},
           {"head.weight", numbers({3, 4}, 6)}},
          {{"running.mean", numbers({4}, 7)}, {"running.variance", numbers({4}, 8).exp()}},
          R"(
def forward(self, x):
    h = torch.tanh(torch.group_norm(x, 2, self.group.weight, self.group.bias, 1e-3))
    h = torch.instance_norm(h, self.instance.weight, self.instance.bias, None, None, True, 0.1, 1e-3, False)
    h = torch.instance_norm(torch.tanh(h), self.running.weight, None, self.running.mean, self.running.variance, False, 0.1, 1e-3, False)
    return torch.linear(torch.tanh(h).mean([2, 3]), self.head.weight)
)",
          [](const NamedTensors& p, const Inputs& x) {
            at::Tensor h = at::tanh(at::group_norm(x[0], 2, p.at("group.weight"), p.at("group.bias"), 1e-3));
            h = at::instance_norm(h, p.at("instance.weight"), p.at("instance.bias"), {}, {}, true, 0.1, 1e-3, false);
            h = at::instance_norm(at::tanh(h), p.at("running.weight"), {}, p.at("running.mean"),
                                  p.at("running.variance"), false, 0.1, 1e-3, false);
            return at::linear(at::tanh(h).mean(at::IntArrayRef{2, 3}), p.at("head.weight"));
          },
          make_batch({numbers({kExamples, 4, 2, 3}, 9)}, kClasses)};
}

/// Tokens that are parameters, before those of the input.
TapModel class_tokens() {
  return {"ClassTokens",
          {{"prompt", numbers({1, 2, 4}, 1)},
           {"token", numbers({4}, 2)},
           {"mixing.weight", numbers({6, 8}, 3)},
           {"head.weight", numbers({3, 4}, 4)}},
          {},
          R"(
def forward(self, x):
    prompt = self.prompt.repeat([x.size(0), 1, 1])
    h = torch.cat([prompt, self.token.expand([x.size(0), 1, 4]), x], 1)
    h = torch.tanh(torch.linear(h.transpose(1, 2), self.mixing.weight))
    return torch.linear(h.mean(2), self.head.weight)
)",
          [](const NamedTensors& p, const Inputs& x) {
            const at::Tensor prompt = p.at("prompt").expand_as(x[0].slice(1, 0, 2));
            const at::Tensor token = p.at("token").expand_as(x[0].slice(1, 0, 1));
            at::Tensor h = at::cat({prompt, token, x[0]}, 1);
            h = at::tanh(at::linear(h.transpose(1, 2), p.at("mixing.weight")));
            return at::linear(h.mean(2), p.at("head.weight"));
          },
          make_batch({numbers({kExamples, 5, 4}, 9)}, kClasses)};
}

/// Embeddings of positions, which no example has of its own, added in three ways; one has a padding index.
TapModel positions() {
  const at::Tensor words = at::arange(kExamples * 5).mul(5).remainder(7).view({kExamples, 5});
  return {"Positions",
          {{"words.weight", numbers({7, 4}, 1)},
           {"line.weight", numbers({9, 4}, 2)},
           {"kinds.weight", numbers({3, 4}, 3)},
           {"across.weight", numbers({6, 4}, 4)},
           {"head.weight", numbers({3, 4}, 5)}},
          {},
          R"(
def forward(self, x):
    position = torch.arange(5)
    h = torch.embedding(self.words.weight, x) + torch.embedding(self.line.weight, position + 2)
    h += torch.embedding(self.kinds.weight, (position % 3).unsqueeze(0), 1)
    h = torch.tanh(h).transpose(0, 1)
    h = torch.embedding(self.across.weight, position).unsqueeze(1) + h
    return torch.linear(torch.tanh(h).mean(0), self.head.weight)
)",
          [](const NamedTensors& p, const Inputs& x) {
            const at::Tensor position = at::arange(5);
            at::Tensor h = at::embedding(p.at("words.weight"), x[0]);
            h = h + at::embedding(p.at("line.weight"), position + 2);
            h += at::embedding(p.at("kinds.weight"), (position % 3).unsqueeze(0), 1);
            h = at::tanh(h).transpose(0, 1);
            h = at::embedding(p.at("across.weight"), position).unsqueeze(1) + h;
            return at::linear(at::tanh(h).mean(0), p.at("head.weight"));
          },
          make_batch({words}, kClasses)};
}

/// One parameter reads tokens and predicts them.
TapModel tied() {
  const at::Tensor words = at::arange(kExamples * 5).mul(5).remainder(7).view({kExamples, 5});
  return {"Tied",
          {{"words.weight", numbers({7, 4}, 1)}, {"inner.weight", numbers({4, 4}, 2)}, {"head.bias", numbers({7}, 3)}},
          {},
          R"(
def forward(self, x):
    h = torch.tanh(torch.linear(torch.embedding(self.words.weight, x), self.inner.weight))
    return torch.linear(h, self.words.weight, self.head.bias)
)",
          [](const NamedTensors& p, const Inputs& x) {
            const at::Tensor h = at::embedding(p.at("words.weight"), x[0]);
            return at::linear(at::tanh(at::linear(h, p.at("inner.weight"))), p.at("words.weight"), p.at("head.bias"));
          },
          make_batch({words}, 7, {kExamples, 5})};
}

/// Several images an example, those of one together or those of one turn together.
TapModel images() {
  return {"Images",
          {{"first.weight", numbers({4, 2, 3, 3}, 1)},
           {"first.bias", numbers({4}, 2)},
           {"norm.weight", numbers({4}, 3)},
           {"second.weight", numbers({4, 2, 2, 2}, 4)},
           {"head.weight", numbers({3, 4}, 5)}},
          {{"norm.mean", numbers({4}, 6)}, {"norm.variance", numbers({4}, 7).exp()}},
          R"(
def forward(self, x):
    h = torch.conv2d(x.reshape([-1, 2, 4, 4]), self.first.weight, self.first.bias, [1, 1], [1, 1])
    h = torch.batch_norm(torch.tanh(h), self.norm.weight, None, self.norm.mean, self.norm.variance, False, 0.1, 1e-3, False)
    h = torch.tanh(h).view([-1, 3, 4, 4, 4]).transpose(0, 1).reshape([-1, 4, 4, 4])
    h = torch.tanh(torch.conv2d(h, self.second.weight, None, [2, 2], [0, 0], [1, 1], 2))
    return torch.linear(h.view([3, -1, 4, 2, 2]).mean([0, 3, 4]), self.head.weight)
)",
          [](const NamedTensors& p, const Inputs& x) {
            at::Tensor h =
                at::conv2d(x[0].reshape({-1, 2, 4, 4}), p.at("first.weight"), p.at("first.bias"), {1, 1}, {1, 1});
            h = at::batch_norm(at::tanh(h), p.at("norm.weight"), {}, p.at("norm.mean"), p.at("norm.variance"), false,
                               0.1, 1e-3, false);
            h = at::tanh(h).view({-1, 3, 4, 4, 4}).transpose(0, 1).reshape({-1, 4, 4, 4});
            h = at::tanh(at::conv2d(h, p.at("second.weight"), {}, at::IntArrayRef{2, 2}, at::IntArrayRef{0, 0},
                                    at::IntArrayRef{1, 1}, 2));
            return at::linear(h.view({3, -1, 4, 2, 2}).mean(at::IntArrayRef{0, 3, 4}), p.at("head.weight"));
          },
          make_batch({numbers({kExamples, 3, 2, 4, 4}, 9)}, kClasses)};
}

}  // namespace

std::vector<TapModel> operator_models() {
  return {einsum(), left_factors(), scales(), channel_norms(), class_tokens(), positions(), tied(), images()};
}

}  // namespace amalgam::test
