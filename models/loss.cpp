#include "models/loss.h"

#include <fmt/ranges.h>

#include <vector>

#include "core/error.h"

namespace amalgam {
namespace {

/// Names what is wrong: the slow path, taken once.
[[noreturn]] void refuse(const at::Tensor& output, const at::Tensor& target, int64_t classes) {
  const at::Tensor outside = target.ge(classes).nonzero();  // [k, 1] or [k, 2]
  if (outside.size(0) > 0) {
    const at::Tensor first = outside[0].cpu();
    const int64_t example = first[0].item<int64_t>();
    const at::Tensor row = target[example];
    const int64_t value = (row.dim() == 0 ? row : row[first[1].item<int64_t>()]).item<int64_t>();
    throw InputError(
        fmt::format("target {} of example {} of the batch is outside the model's {} classes (0 to {}); check the "
                    "labels, or the number of classes of the model",
                    value, example, classes, classes - 1));
  }
  const int64_t example = at::isfinite(output).flatten(1).all(1).logical_not().nonzero()[0].item<int64_t>();
  throw InputError(
      fmt::format("the model's output for example {} of the batch is not finite; the model has diverged, or its "
                  "input is not finite",
                  example));
}

/// -log p(target), 0 where the target is ignored. output [N, C], target [N] -> [N]
at::Tensor negative_log_likelihood(const at::Tensor& output, const at::Tensor& target) {
  constexpr int64_t kIgnored = -100;
  const bool half = output.scalar_type() == at::kHalf || output.scalar_type() == at::kBFloat16;
  const at::Tensor log_probability = at::log_softmax(output, 1, half ? at::kFloat : output.scalar_type());
  return at::nll_loss(log_probability, target.masked_fill(target.lt(0), kIgnored), {}, at::Reduction::None, kIgnored);
}

}  // namespace

const std::vector<std::string>& loss_names() {
  static const std::vector<std::string> names = {"cross_entropy"};
  return names;
}

at::Tensor example_losses(const std::string& loss, const at::Tensor& output, const at::Tensor& target) {
  require_input(loss == "cross_entropy", "unknown loss '{}'{}", loss, suggestion(loss, loss_names()));
  const bool fits = (output.dim() == 2 || output.dim() == 3) && target.dim() == output.dim() - 1 &&
                    output.sizes().slice(0, static_cast<size_t>(target.dim())) == target.sizes();
  require_input(
      fits, "an output {} and a target {} do not fit: cross_entropy takes [N, C] with [N], or [N, T, C] with [N, T]",
      fmt::join(output.sizes(), " x "), fmt::join(target.sizes(), " x "));
  require_input(target.scalar_type() == at::kLong, "cross_entropy takes int64 targets, not {}",
                c10::toString(target.scalar_type()));
  const int64_t classes = output.size(-1);
  // The one host read of a call. It must come first: a target out of range is undefined behaviour in LibTorch's
  // kernels.
  const at::Tensor wrong = target.ge(classes).any().logical_or(at::isfinite(output.detach()).all().logical_not());
  if (wrong.item<bool>()) refuse(output.detach(), target, classes);

  const at::Tensor by_target = negative_log_likelihood(output.reshape({-1, classes}), target.reshape(-1));
  return target.dim() == 1 ? by_target : by_target.view(target.sizes()).sum(1);
}

}  // namespace amalgam
