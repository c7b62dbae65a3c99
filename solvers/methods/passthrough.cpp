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

void Passthrough::plan(const MergeInput& input) {
  require_input(!expert_.empty(), "{}: give `expert`, the task whose expert is copied", where_);
  owners_ = {expert_of_task(input, expert_, where_ + ".expert")};
  for (size_t i = 0; i < by_layer_.size(); ++i) {
    const OwnerRule& rule = by_layer_[i];
    const std::string place = fmt::format("{}.by_layer[{}]", where_, i);
    owners_.push_back(expert_of_task(input, rule.expert, place + ".expert"));
    require_input(std::ranges::any_of(input.parameters,
                                      [&](const std::string& name) { return matches_any({rule.pattern}, name); }),
                  "{}: no shared parameter fits '{}'", place, rule.pattern);
  }
}

at::Tensor Passthrough::merge_parameter(const MergeInput& input, const std::string& name) {
  size_t owner = owners_.front();
  for (size_t i = by_layer_.size(); i-- > 0;)  // the first that fits is the last to be set
    if (matches_any({by_layer_[i].pattern}, name)) owner = owners_[i + 1];
  return read_parameter(*input.experts[owner].tensors, name, input.device);
}

}  // namespace amalgam
