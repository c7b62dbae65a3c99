#include "models/labels.h"

#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>

#include "core/error.h"
#include "models/loss.h"

// Note [Exact labels]
// The Fisher of an example is Σ_c p_c g_c g_cᵀ, g_c the gradient of −log p_c. Every statistic of gradients is quadratic
// in them (g gᵀ, squares), so a backward pass whose loss is sqrt(p_c) (−log p_c), with the root held constant, gives
// the gradient sqrt(p_c) g_c and adds exactly the term of class c. The examples of a batch do not mix: one pass serves
// them all.

namespace amalgam {

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

at::Tensor sampled_targets(const at::Tensor& output, const at::Tensor& target, const at::Tensor& ids,
                           const RandomStream& stream) {
  require_input(
      output.dim() == target.dim() + 1 && output.sizes().slice(0, static_cast<size_t>(target.dim())) == target.sizes(),
      "labels cannot be drawn for targets [{}] from an output [{}]: expected [N] with [N, C], or [N, T] with "
      "[N, T, C]",
      fmt::join(target.sizes(), ", "), fmt::join(output.sizes(), ", "));
  require_input(ids.defined() && ids.numel() == target.size(0),
                "sampled labels need the number of each example in its split, and the data give none");

  const at::NoGradGuard no_grad;
  const int64_t positions = target.dim() == 1 ? 1 : target.size(1);
  at::Tensor draws = at::empty({target.size(0), positions}, at::kDouble);
  auto draw = draws.accessor<double, 2>();
  const auto id = ids.accessor<int64_t, 1>();
  for (int64_t n = 0; n < draws.size(0); ++n)
    for (int64_t t = 0; t < positions; ++t)
      draw[n][t] = stream.uniform(static_cast<uint64_t>(id[n]), static_cast<uint64_t>(t));

  const at::Tensor cumulated = at::softmax(output, -1, at::kDouble).cumsum(-1);           // [..., C]
  const at::Tensor level = draws.to(output.device()).view(target.sizes()).unsqueeze(-1);  // [..., 1]
  // The last sum is 1 but for rounding: a draw above it is of the last class.
  const at::Tensor drawn = cumulated.le(level).sum(-1).clamp_max(output.size(-1) - 1);
  return at::where(target.lt(0), target, drawn);
}

int64_t label_passes(LabelMode mode, const at::Tensor& output) {
  if (mode != LabelMode::kExact) return 1;
  require_input(output.dim() == 2,
                "exact labels are for outputs [N, classes], and this model's is [{}]; use labels: sampled",
                fmt::join(output.sizes(), ", "));
  require_input(output.size(1) <= kMostExactClasses,
                "exact labels take a backward pass a class, at most {}, and this model has {}; use labels: sampled",
                kMostExactClasses, output.size(1));
  return output.size(1);
}

at::Tensor label_loss(LabelMode mode, int64_t pass, const std::string& loss, const at::Tensor& output,
                      const Batch& batch, const RandomStream& stream) {
  if (mode == LabelMode::kTrue) return example_losses(loss, output, batch.target).sum();
  require_input(
      loss == "cross_entropy",
      "labels: {} are drawn from the model's distribution over classes, which the loss '{}' does not give; use "
      "labels: true",
      name_of(mode), loss);
  if (mode == LabelMode::kSampled)
    return example_losses(loss, output, sampled_targets(output.detach(), batch.target, batch.ids, stream)).sum();
  const at::Tensor target = batch.target.masked_fill(batch.target.ge(0), pass);                  // [N]
  const at::Tensor probability = at::softmax(output.detach(), -1, at::kDouble).select(1, pass);  // [N]
  const at::Tensor losses = example_losses(loss, output, target);
  return (probability.sqrt().to(losses.scalar_type()) * losses).sum();
}

}  // namespace amalgam
