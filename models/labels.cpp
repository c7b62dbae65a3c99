#include "models/labels.h"

#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>

#include "core/error.h"

// Note [Exact labels]
// The Fisher of an example is E g gᵀ, g the gradient of −log p(y) and y drawn from the model. Every statistic of
// gradients is quadratic in them (g gᵀ, squares), so a backward pass whose loss is w f, with w held constant and f
// linear in the labels' part of the gradient, adds exactly w² ∂f ∂fᵀ. The passes of a loss are chosen so that these add
// up:
//  - classes: E g gᵀ = Σ_c p_c g_c g_cᵀ, g_c the gradient of −log p_c: a pass with sqrt(p_c) (−log p_c) each.
//  - tokens: given the output they are independent and E g_t = 0, so E (Σ_t g_t)(Σ_t g_t)ᵀ = Σ_t E g_t g_tᵀ: a pass for
//    each pair of position and class.
//  - Bernoulli: g = (σ(f) − y) ∂f, and the variance of y is p (1−p): a pass with sqrt(p (1−p)) f_k a label.
//  - Gaussian of unit variance: g = Σ_k (f_k − y_k) ∂f_k, the variances are 1: a pass with f_k a component, which is
//    the Gauss-Newton matrix Jᵀ J.
// The examples of a batch do not mix: one pass serves them all.

namespace amalgam {
namespace {

using Kind = LossSpec::Kind;

/// `draw(example, position)` for each example and target, float64 on `device`, shaped as `target`.
template <class Draw>
at::Tensor draws_for(const at::Tensor& target, const at::Tensor& ids, at::Device device, const Draw& draw) {
  const int64_t examples = target.size(0), positions = examples > 0 ? target.numel() / examples : 0;
  at::Tensor draws = at::empty({examples, positions}, at::kDouble);
  auto drawn = draws.accessor<double, 2>();
  const auto id = ids.accessor<int64_t, 1>();
  for (int64_t n = 0; n < examples; ++n)
    for (int64_t t = 0; t < positions; ++t) drawn[n][t] = draw(static_cast<uint64_t>(id[n]), static_cast<uint64_t>(t));
  return draws.to(device).view(target.sizes());
}

void require_drawable(Kind kind, const at::Tensor& output, const at::Tensor& target, const at::Tensor& ids) {
  const bool classes = kind == Kind::kCrossEntropy;
  const auto leading =
      classes && output.dim() > 0 ? output.sizes().slice(0, static_cast<size_t>(output.dim() - 1)) : output.sizes();
  require_input(target.dim() > 0 && leading == target.sizes(),
                "labels cannot be drawn for targets [{}] from an output [{}]: expected {}",
                fmt::join(target.sizes(), ", "), fmt::join(output.sizes(), ", "),
                classes ? "[N] with [N, C], or [N, T] with [N, T, C]" : "one shape");
  require_input(ids.defined() && ids.numel() == target.size(0),
                "sampled labels need the number of each example in its split, and the data give none");
}

at::Tensor sampled_classes(const at::Tensor& output, const at::Tensor& target, const at::Tensor& level) {
  const at::Tensor cumulated = at::softmax(output, -1, at::kDouble).cumsum(-1);  // [..., C]
  // The last sum is 1 but for rounding: a draw above it is of the last class.
  const at::Tensor drawn = cumulated.le(level.unsqueeze(-1)).sum(-1).clamp_max(output.size(-1) - 1);
  return at::where(target.lt(0), target, drawn);
}

/// −log p of class `pass` mod C at position `pass` / C, times the root of p. [N]
at::Tensor exact_class_losses(int64_t pass, const LossSpec& loss, const at::Tensor& output, const at::Tensor& target) {
  const int64_t classes = output.size(-1), position = pass / classes, category = pass % classes;
  at::Tensor wanted = at::full_like(target, -1);
  const at::Tensor counts = target.ge(0);
  const at::Tensor at_position = target.dim() == 1 ? wanted : wanted.select(1, position);  // [N], a view
  at_position.masked_fill_(target.dim() == 1 ? counts : counts.select(1, position), category);
  LossSpec plain = loss;  // the model's own distribution: its log-likelihood, summed
  plain.label_smoothing = 0;
  plain.targets = "sum";
  const at::Tensor scores = target.dim() == 1 ? output.detach() : output.detach().select(1, position);  // [N, C]
  const at::Tensor probability = at::softmax(scores, -1, at::kDouble).select(1, category);              // [N]
  const at::Tensor losses = example_losses(plain, output, wanted);
  return probability.sqrt().to(losses.scalar_type()) * losses;
}

/// Component `pass` of the output, times the standard deviation of its label. [N]
at::Tensor exact_value_losses(int64_t pass, Kind kind, const at::Tensor& output) {
  require_finite_output(output);
  const bool half = output.scalar_type() == at::kHalf || output.scalar_type() == at::kBFloat16;
  const at::Tensor all = output.dim() == 1 ? output.unsqueeze(1) : output.flatten(1);
  const at::Tensor component = half ? all.select(1, pass).to(at::kFloat) : all.select(1, pass);
  if (kind == Kind::kMeanSquaredError) return component;
  const at::Tensor logit = component.detach().to(at::kDouble);
  // σ(f) σ(−f): 1 − σ(f) would be rounded to 0 where f is large.
  const at::Tensor deviation = (at::sigmoid(logit) * at::sigmoid(-logit)).sqrt();
  return deviation.to(component.scalar_type()) * component;
}

}  // namespace

const char* name_of(LabelMode mode) {
  switch (mode) {
    case LabelMode::kTrue:
      return "true";
    case LabelMode::kSampled:
      return "sampled";
    case LabelMode::kExact:
      return "exact";
  }
  return "";
}

LabelMode label_mode_from_name(const std::string& name) {
  std::vector<std::string> names;
  for (const LabelMode mode : {LabelMode::kTrue, LabelMode::kSampled, LabelMode::kExact}) {
    if (name == name_of(mode)) return mode;
    names.emplace_back(name_of(mode));
  }
  throw InputError(fmt::format("unknown label mode '{}'{}", name, suggestion(name, names)));
}

at::Tensor sampled_targets(const LossSpec& loss, const at::Tensor& output, const at::Tensor& target,
                           const at::Tensor& ids, const RandomStream& stream) {
  const Kind kind = loss.kind();
  require_drawable(kind, output, target, ids);
  const at::NoGradGuard no_grad;
  const bool gaussian = kind == Kind::kMeanSquaredError;
  const at::Tensor draws = draws_for(target, ids, output.device(), [&](uint64_t example, uint64_t position) {
    return gaussian ? stream.normal(example, position) : stream.uniform(example, position);
  });
  switch (kind) {
    case Kind::kCrossEntropy:
      return sampled_classes(output, target, draws);
    case Kind::kBinaryCrossEntropy:
      return draws.lt(at::sigmoid(output.to(at::kDouble))).to(at::kDouble);
    default:
      return output.to(at::kDouble) + draws;
  }
}

int64_t label_passes(LabelMode mode, const LossSpec& loss, const at::Tensor& output) {
  if (mode != LabelMode::kExact) return 1;
  const int64_t passes = output.size(0) > 0 ? output.numel() / output.size(0) : 1;
  require_input(passes <= kMostExactPasses,
                "exact labels take a backward pass {}, at most {}, and an output [{}] has {}; use labels: sampled",
                loss.kind() == Kind::kCrossEntropy ? "a class and position" : "a component of the output",
                kMostExactPasses, fmt::join(output.sizes(), ", "), passes);
  return passes;
}

at::Tensor label_loss(LabelMode mode, int64_t pass, const LossSpec& loss, const at::Tensor& untempered,
                      const Batch& batch, const RandomStream& stream, double temperature) {
  TORCH_CHECK(temperature > 0, "labels at temperature ", temperature);
  const at::Tensor output = temperature == 1.0 ? untempered : untempered / temperature;
  if (mode == LabelMode::kTrue) return example_losses(loss, output, batch.target).sum();
  LossSpec plain = loss;
  plain.label_smoothing = 0;
  if (mode == LabelMode::kSampled)
    return example_losses(plain, output, sampled_targets(loss, output.detach(), batch.target, batch.ids, stream)).sum();
  const Kind kind = loss.kind();
  at::Tensor losses = kind == Kind::kCrossEntropy ? exact_class_losses(pass, loss, output, batch.target)
                                                  : exact_value_losses(pass, kind, output);  // [N]
  if (loss.targets == "mean") losses = losses / target_counts(loss, batch.target).clamp_min(1);
  return losses.sum();
}

void check_temperature(double temperature, const LossSpec& loss, const std::string& where) {
  require_input(temperature == 1.0 || loss.kind() != Kind::kMeanSquaredError,
                "{}: {} is for losses of probabilities, and `mean_squared_error` has none to soften; leave it out",
                where, temperature);
}

}  // namespace amalgam
