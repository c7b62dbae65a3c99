#include "solvers/search/mask_descent.h"

#include "solvers/methods/task_vectors.h"
#include "solvers/search/relaxed_mask.h"
#include "solvers/search/task_vector_sum.h"

namespace amalgam {

MaskDescent::MaskDescent(const MergeInput& input, const std::vector<std::string>& names, double scale,
                         const DescentOptions& options, double temperature)
    : input_(input),
      names_(names),
      temperature_(temperature),
      descent_(input, options),
      rest_(tensors_left_aside(input, names)) {
  for (const std::string& name : names) {
    Part& part = parts_[name];
    part.stored = input.base->infos().at(name);
    part.base = read_parameter(*input.base, name, input.device);
    part.sum = at::zeros_like(part.base);
    const HeardVectors heard = heard_task_vectors(input, name);
    for (size_t m = 0; m < heard.changes.size(); ++m) part.sum.add_(heard.changes[m], scale * heard.weights[m]);
    part.logits = at::zeros_like(part.base);
  }
}

at::Tensor MaskDescent::draw(const std::string& name, const Part& part) const {
  const at::Tensor draws = mask_draws(input_.seed, name, static_cast<uint64_t>(descent_.steps()), part.logits);
  return relaxed_mask(part.logits, draws, temperature_);
}

void MaskDescent::step(const Checkpoint& checkpoint) {
  NamedTensors model = rest_, masks;
  for (const auto& [name, part] : parts_) {
    const at::Tensor mask = masks[name] = draw(name, part);
    model[name] = (part.base + rescaled(mask) * part.sum).to(part.stored.dtype);
  }
  const NamedTensors gradient = descent_.next_gradient(model, names_, checkpoint);
  for (auto& [name, part] : parts_) {
    const at::Tensor slopes = logit_slopes(masks.at(name), gradient.at(name) * part.sum, temperature_);
    adam_step(part.logits, slopes, descent_.options().rate, part.adam);
  }
}

NamedTensors MaskDescent::masks(bool drawn) const {
  NamedTensors masks;
  for (const auto& [name, part] : parts_) masks[name] = rescaled(drawn ? draw(name, part) : part.logits.sigmoid());
  return masks;
}

NamedTensors MaskDescent::state() const {
  NamedTensors state = {{"entropies", descent_.course()}};
  for (const auto& [name, part] : parts_) {
    state["logits/" + name] = part.logits.cpu();
    if (part.adam.steps == 0) continue;
    state["mean/" + name] = part.adam.mean.cpu();
    state["square/" + name] = part.adam.square.cpu();
  }
  return state;
}

void MaskDescent::resume(const NamedTensors& state) {
  EntropyDescent descent = descent_;
  descent.resume(state);
  std::map<std::string, Part> parts = parts_;  // the tensors themselves are not copied
  for (auto& [name, part] : parts) {
    const at::Tensor like = part.logits;
    part.logits = kept_tensor(state, "logits/" + name, like);
    if (descent.steps() > 0)
      part.adam = {kept_tensor(state, "mean/" + name, like), kept_tensor(state, "square/" + name, like),
                   descent.steps()};
  }
  parts_ = std::move(parts);
  descent_ = std::move(descent);
}

}  // namespace amalgam
