#include "models/entropy.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include "core/error.h"

namespace amalgam {
namespace {

/// −Σ_c p_c log p_c over the last axis.
at::Tensor entropy_of_classes(const at::Tensor& output) {
  const at::Tensor log_shares = at::log_softmax(output, -1);
  return -(log_shares.exp() * log_shares).sum(-1);
}

/// log(1 + eᶠ) − f σ(f), which is the entropy of σ(f).
at::Tensor entropy_of_labels(const at::Tensor& output) { return at::softplus(output) - output * output.sigmoid(); }

std::string shape_text(const at::Tensor& tensor) { return describe({tensor.scalar_type(), tensor.sizes().vec()}); }

/// [N, T] -> [N], over the tokens that count; 0 where none does.
at::Tensor mean_over_tokens(const at::Tensor& entropies, const at::Tensor& target) {
  require_input(target.sizes() == entropies.sizes(), "the output's tokens and its targets do not fit: {} and {}",
                shape_text(entropies), shape_text(target));
  const at::Tensor counts = target.ge(0);
  return entropies.masked_fill(counts.logical_not(), 0).sum(1) / counts.sum(1).clamp_min(1);
}

/// Parameters require gradients in this scope, where they did not before.
class GradientScope {
 public:
  explicit GradientScope(std::vector<at::Tensor> parameters) {
    for (at::Tensor& parameter : parameters) {
      if (parameter.requires_grad()) continue;
      changed_.push_back(parameter.requires_grad_(true));
    }
  }
  ~GradientScope() {
    for (at::Tensor& parameter : changed_) parameter.requires_grad_(false);
  }
  GradientScope(const GradientScope&) = delete;
  GradientScope& operator=(const GradientScope&) = delete;

 private:
  std::vector<at::Tensor> changed_;
};

}  // namespace

bool has_entropy(LossSpec::Kind loss) { return loss != LossSpec::Kind::kMeanSquaredError; }

at::Tensor prediction_entropies(const LossSpec& loss, const at::Tensor& output, const at::Tensor& target) {
  require_input(has_entropy(loss.kind()), "predictions under the loss {} are numbers, which have no entropy",
                loss.name);
  require_finite_output(output);
  const at::Tensor values = output.to(output.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
  if (loss.kind() == LossSpec::Kind::kBinaryCrossEntropy) {
    const at::Tensor entropies = entropy_of_labels(values);
    return entropies.dim() == 1 ? entropies : entropies.flatten(1).mean(1);
  }
  require_input(values.dim() == 2 || values.dim() == 3, "cross_entropy takes an output [N, C] or [N, T, C], and got {}",
                shape_text(values));
  const at::Tensor entropies = entropy_of_classes(values);
  return entropies.dim() == 1 ? entropies : mean_over_tokens(entropies, target);
}

EntropyGradient entropy_gradient(ModelRunner& model, const Batch& batch, const LossSpec& loss,
                                 const std::vector<std::string>& by) {
  const at::AutoGradMode with_gradients(true);
  const NamedTensors parameters = model.parameters();
  std::vector<at::Tensor> asked;
  for (const std::string& name : by) {
    const auto found = parameters.find(name);
    if (found == parameters.end())  // a suggestion takes too long to be made in each step
      throw InputError(
          fmt::format("the model has no parameter '{}'{}", name, suggestion(name, model.parameter_names())));
    asked.push_back(found->second);
  }
  const GradientScope scope(asked);
  const Batch here = batch.to(model.device());
  const at::Tensor value = prediction_entropies(loss, model.forward(here), here.target).mean();
  EntropyGradient result;
  result.value = value.item<double>();
  std::vector<at::Tensor> gradients(asked.size());
  if (value.requires_grad())
    gradients = torch::autograd::grad({value}, asked, {}, /*retain_graph=*/std::nullopt, /*create_graph=*/false,
                                      /*allow_unused=*/true);
  for (size_t i = 0; i < by.size(); ++i)
    result.gradient[by[i]] = gradients[i].defined() ? gradients[i] : at::zeros_like(asked[i]);
  return result;
}

}  // namespace amalgam
