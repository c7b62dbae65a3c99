#include "solvers/methods/passthrough.h"

#include <algorithm>

#include "core/error.h"
#include "core/patterns.h"
#include "solvers/methods/experts.h"

namespace amalgam {
namespace {

const RegisterMethod<Passthrough> registered("passthrough", "a copy of one expert, or of several by layer", "mergekit");

}  // namespace

void OwnerRule::declare(OptionSet& set) {
  set.text("pattern", pattern, "of the parameters' names");
  set.text("expert", expert, "the task whose expert's they are");
}

void Passthrough::declare_options(OptionSet& set) {
  set.text("expert", expert_, "the task whose expert is copied; must be given");
  set.sections("by_layer", by_layer_,
               "parameters of other experts, [{pattern: 'encoder.*', expert: …}]; the first that fits counts");
}

void Passthrough::configure(const std::string& where) {
  where_ = where;
  for (size_t i = 0; i < by_layer_.size(); ++i)
    require_input(!by_layer_[i].pattern.empty() && !by_layer_[i].expert.empty(),
                  "{}.by_layer[{}]: give `pattern` and `expert`", where, i);
}

std::vector<size_t> Passthrough::owners(const std::vector<ExpertInput>& experts) const {
  require_input(!expert_.empty(), "{}: give `expert`, the task whose expert is copied", where_);
  std::vector owners = {expert_of_task(experts, expert_, where_ + ".expert")};
  for (size_t i = 0; i < by_layer_.size(); ++i)
    owners.push_back(expert_of_task(experts, by_layer_[i].expert, fmt::format("{}.by_layer[{}].expert", where_, i)));
  return owners;
}

void Passthrough::check_tasks(const std::vector<ExpertInput>& experts) const { owners(experts); }

void Passthrough::plan(const MergeInput& input) {
  owners_ = owners(input.experts);
  for (size_t i = 0; i < by_layer_.size(); ++i)
    require_matches(fmt::format("{}.by_layer[{}]", where_, i), {by_layer_[i].pattern}, input.parameters);
}

size_t Passthrough::owner_of(const std::string& name) const {
  for (size_t i = 0; i < by_layer_.size(); ++i)
    if (matches_any({by_layer_[i].pattern}, name)) return owners_[i + 1];
  return owners_.front();
}

at::Tensor Passthrough::merge_parameter(const MergeInput& input, const std::string& name) {
  return read_parameter(*input.experts[owner_of(name)].tensors, name, input.device);
}

std::vector<double> Passthrough::buffer_weights(const MergeInput& input, const std::string& name) const {
  std::vector<double> weights(input.experts.size(), 0.0);
  weights[owner_of(name)] = 1.0;
  return weights;
}

}  // namespace amalgam
