#include "solvers/methods/start.h"

#include <algorithm>

#include "core/error.h"
#include "solvers/methods/average.h"
#include "solvers/methods/experts.h"
#include "solvers/methods/names_tasks.h"

namespace amalgam {
namespace {

constexpr std::string_view kExpertPrefix = "expert:";

}  // namespace

Start::Start(const YAML::Node& entry, const std::string& where) : where_(where) {
  const std::string word = entry.IsScalar() ? entry.Scalar() : "";
  if (word == "zero") {
    kind_ = Kind::kZero;
  } else if (word == "base") {
    kind_ = Kind::kBase;
  } else if (word.starts_with(kExpertPrefix)) {
    kind_ = Kind::kExpert;
    task_ = word.substr(kExpertPrefix.size());
  } else {
    if (entry.IsScalar()) {
      std::vector<std::string> known = method_names();
      require_input(std::find(known.begin(), known.end(), word) != known.end(),
                    "{}: '{}' is no start{}; expected zero, base, expert:<task>, or a method", where, word,
                    suggestion(word, (known.insert(known.end(), {"zero", "base"}), known)));
    }
    method_ = make_method(entry, where);
    require_input(method_->selects_everything(),
                  "{}: a start takes no `apply_to` and no `except`; give them to the method "
                  "that starts here",
                  where);
    require_input(!method_->requirements().runs_models(),
                  "{}: '{}' runs the models and cannot be a start; give a method that merges from the tensors alone",
                  where, method_->name());
  }
}

MethodRequirements Start::requirements() const {
  return kind_ == Kind::kMethod ? method_->requirements() : MethodRequirements{.base = kind_ == Kind::kBase};
}

void Start::check_tasks(const std::vector<ExpertInput>& experts) const {
  if (kind_ == Kind::kMethod) check_task_names(*method_, experts);
  if (kind_ == Kind::kExpert) expert_of_task(experts, task_, where_);
}

void Start::plan(const MergeInput& input) {
  if (kind_ == Kind::kMethod) method_->plan(input);
  if (kind_ == Kind::kExpert) check_tasks(input.experts);
}

at::Tensor Start::matrices(const MergeInput& input, const MergeGroup& group, const LayerBatch& batch,
                           at::ScalarType dtype, const Checkpoint& checkpoint) const {
  switch (kind_) {
    case Kind::kZero:
      return at::zeros({batch.items(), batch.rows(), batch.columns()}, at::TensorOptions(input.device).dtype(dtype));
    case Kind::kBase:
      return batch.gather(*input.base, dtype);
    case Kind::kExpert:
      return batch.gather(*input.experts[expert_of_task(input.experts, task_, where_)].tensors, dtype);
    case Kind::kMethod:
      break;
  }
  if (method_->requirements().layers) {
    const GroupResult result = method_->merge_group(input, group, checkpoint);
    size_t next = 0;
    return batch.stack([&](const LayerMatrix&) { return result.matrices[next++]; }, dtype);
  }
  MergeGroup parameters;
  for (const LayerMatrix& layer : group.layers) {
    parameters.parameters.push_back(layer.layer().weight);
    if (layer.with_bias()) parameters.parameters.push_back(layer.layer().bias);
  }
  const GroupResult result = method_->merge_group(input, parameters, checkpoint);
  return batch.stack(
      [&](const LayerMatrix& layer) {
        return layer.gather([&](const std::string& name) { return result.merged.at(name); });
      },
      dtype);
}

at::Tensor Start::parameter(const MergeInput& input, const std::string& name, const Checkpoint& checkpoint) const {
  const auto of = [&](const TensorSource& source) {
    return read_parameter(source, name, input.device).to(at::kDouble);
  };
  switch (kind_) {
    case Kind::kZero:
      return at::zeros_like(of(*input.experts.front().tensors));
    case Kind::kBase:
      return of(*input.base);
    case Kind::kExpert:
      return of(*input.experts[expert_of_task(input.experts, task_, where_)].tensors);
    case Kind::kMethod:
      break;
  }
  const MethodRequirements requirements = method_->requirements();
  if (requirements.layers && !requirements.vectors) return average_parameter(input, name).to(at::kDouble);
  const at::Tensor merged = method_->merge_group(input, {{name}, {}}, checkpoint).merged.at(name);
  return merged.to(input.device, at::kDouble);  // merged in pieces it lies on the CPU
}

}  // namespace amalgam
