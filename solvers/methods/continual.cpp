#include "solvers/methods/continual.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "solvers/linear/spectrum.h"

namespace amalgam {

std::string to_json(const ContinualState& state) {
  return nlohmann::json{{"scale", state.scale}, {"mean_norm", state.mean_norm}, {"experts", state.experts}}.dump();
}

ContinualState continual_state_from_json(const std::string& text) {
  ContinualState state;
  try {
    const auto object = nlohmann::json::parse(text);
    object.at("scale").get_to(state.scale);
    object.at("mean_norm").get_to(state.mean_norm);
    object.at("experts").get_to(state.experts);
  } catch (const nlohmann::json::exception& error) {
    throw InputError(fmt::format("the state of a continual merge cannot be read: {}", error.what()));
  }
  require_input(state.experts > 0 && state.scale > 0 && state.mean_norm >= 0 && std::isfinite(state.scale) &&
                    std::isfinite(state.mean_norm),
                "the state of a continual merge makes no sense: {}", text);
  return state;
}

at::Tensor without_overlap(const at::Tensor& kept, const at::Tensor& change, double share) {
  const Spectrum all = spectrum_of(kept), seen = all.leading(all.rank());
  const at::Tensor cumulated = seen.values.cumsum(0);
  const int64_t leading = cumulated.le(share * seen.values.sum()).sum().item<int64_t>();  // r
  at::Tensor projected = seen.left.t().mm(change).mm(seen.right.t());                     // U₁ᵀ N V₁ [rank, rank]
  at::Tensor overlap = at::diag(projected.diagonal());
  const auto block = [&](const at::Tensor& matrix) { return matrix.narrow(0, 0, leading).narrow(1, 0, leading); };
  block(overlap).copy_(block(projected));
  return change - seen.left.mm(overlap).mm(seen.right);
}

at::Tensor add_change(const at::Tensor& sum, const at::Tensor& change, double share) {
  return sum + (change.dim() == 2 && change.numel() > 0 ? without_overlap(sum, change, share) : change);
}

double continual_scale(double sum_norm, double mean_norm) {
  return sum_norm > 0 && mean_norm > 0 ? sum_norm / mean_norm : 1.0;
}

ContinualState merge_onto(const TensorSource& base, const TensorSource& merged, const ContinualState& state,
                          const ExpertInput& expert, const std::vector<std::string>& names, double share,
                          at::Device device, const Checkpoint& checkpoint,
                          const std::function<void(const std::string& name, const at::Tensor& value)>& take) {
  require_input(state.experts > 0, "there is nothing to merge onto: no expert was merged before '{}'", expert.task);
  const auto read = [&](const TensorSource& source, const std::string& name) {
    return read_parameter(source, name, device).to(at::kDouble);
  };
  double new_square = 0.0, sum_square = 0.0;
  const auto added = [&](const std::string& name, const at::Tensor& from) {
    checkpoint();
    const at::Tensor change = (read(*expert.tensors, name) - from).mul_(expert.weight);
    const double square = change.square().sum().item<double>();
    require_input(std::isfinite(square),
                  "'{}' of expert '{}' holds a value that is not finite; mend or retrain that expert", name,
                  expert.task);
    new_square += square;
    return add_change((read(merged, name) - from).mul_(state.scale), change, share);
  };
  for (const std::string& name : names) sum_square += added(name, read(base, name)).square().sum().item<double>();
  ContinualState next;
  next.experts = state.experts + 1;
  next.mean_norm = (state.mean_norm * static_cast<double>(state.experts) + std::sqrt(new_square)) /
                   static_cast<double>(next.experts);
  next.scale = continual_scale(std::sqrt(sum_square), next.mean_norm);
  for (const std::string& name : names) {
    const at::Tensor from = read(base, name);
    take(name, from + added(name, from) / next.scale);
  }
  return next;
}

}  // namespace amalgam
