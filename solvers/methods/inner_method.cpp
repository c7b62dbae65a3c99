#include "solvers/methods/inner_method.h"

#include "core/error.h"
#include "solvers/methods/task_part_method.h"

namespace amalgam {

InnerMethod::InnerMethod() {
  entry_["method"] = "task_arithmetic";
  entry_["scale"] = "0.3";  // as text: yaml-cpp writes a double with 17 digits
}

void InnerMethod::declare_inner(OptionSet& set, const std::string& help) {
  set.node("inner", entry_, help + ": a name, or a map with `method` and its options");
}

void InnerMethod::configure(const std::string& where) {
  method_ = make_method(entry_, where + ".inner");
  require_input(method_->selects_everything(),
                "{}.inner: the inner method takes no `apply_to` and no `except`; give them to `{}`", where, name());
  require_input(!keeps_task_parts(*method_),
                "{}.inner: '{}' keeps parts of tasks, which would be lost; give a method that makes one model of all "
                "(`twin` keeps parts beside what any such method makes)",
                where, method_->name());
}

void InnerMethod::refuse_running(const std::string& where, const std::string& how) const {
  require_input(!method_->requirements().runs_models(),
                "{}.inner: '{}' runs the models while it merges, and they would run {}; give a method that merges from "
                "the tensors alone",
                where, method_->name(), how);
}

std::string InnerMethod::why_not(const ExpertInput& expert, const LayerMatrix& layer) const {
  return method_->why_not(expert, layer);
}

std::string InnerMethod::batch_key(const MergeInput& input, const LayerMatrix& layer) const {
  return method_->batch_key(input, layer);
}

bool InnerMethod::merges_by(const std::string& method) const {
  const auto* nested = dynamic_cast<const InnerMethod*>(method_.get());
  return method_->name() == method || (nested != nullptr && nested->merges_by(method));
}

MergeInput InnerMethod::selected(const MergeInput& input) const {
  MergeInput selected = input;
  selected.parameters.clear();
  for (const std::string& name : input.parameters)
    (selects(name) ? selected.parameters : selected.buffers).push_back(name);
  return selected;
}

}  // namespace amalgam
