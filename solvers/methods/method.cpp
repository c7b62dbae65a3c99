#include "solvers/methods/method.h"

#include <algorithm>
#include <map>

#include "core/error.h"
#include "core/patterns.h"

namespace amalgam {
namespace {

/// Filled at start, by static objects of any source: so it is made on first use.
std::map<std::string, MethodEntry>& registry() {
  static std::map<std::string, MethodEntry> entries;
  return entries;
}

}  // namespace

void MergeMethod::declare(OptionSet& set) {
  set.texts("apply_to", apply_to_, "name patterns of the parameters to merge so; the others are averaged");
  set.texts("except", except_, "name patterns of parameters to average all the same");
  declare_options(set);
}

YAML::Node MergeMethod::write_options() {
  OptionSet set;
  declare(set);
  return set.write();
}

bool MergeMethod::selects(const std::string& parameter) const {
  return matches_any(apply_to_, parameter) && !matches_any(except_, parameter);
}

bool MergeMethod::selects_everything() const { return except_.empty() && apply_to_ == std::vector<std::string>{"*"}; }

std::vector<double> MergeMethod::buffer_weights(const MergeInput& input, const std::string& /*name*/) const {
  std::vector<double> weights;
  for (const ExpertInput& expert : input.experts) weights.push_back(expert.weight);
  return weights;
}

GroupResult ParameterMethod::merge_group(const MergeInput& input, const MergeGroup& group,
                                         const Checkpoint& checkpoint) {
  TORCH_CHECK(group.layers.empty(), name(), " merges parameters, not layers");
  GroupResult result;
  for (const std::string& parameter : group.parameters) {
    checkpoint();
    result.merged[parameter] = merge_parameter(input, parameter);
    const std::string said = remark(input, parameter);
    if (said.empty()) continue;
    LayerReport& report = result.reports.emplace_back();
    report.layer = parameter;
    report.why = said;
  }
  return result;
}

at::Tensor read_parameter(const TensorSource& source, const std::string& name, at::Device device) {
  const at::Tensor stored = source.get(name);
  return stored.to(device, stored.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
}

void register_method(MethodEntry entry) {
  const std::string name = entry.name;
  TORCH_CHECK(registry().emplace(name, std::move(entry)).second, "two merge methods are called ", name);
}

std::vector<std::string> method_names() {
  std::vector<std::string> names;
  for (const auto& [name, entry] : registry()) names.push_back(name);
  return names;
}

const MethodEntry& find_method(const std::string& name, const std::string& where) {
  const auto found = registry().find(name);
  require_input(found != registry().end(), "{}: there is no method '{}'{}", where, name,
                suggestion(name, method_names()));
  return found->second;
}

std::unique_ptr<MergeMethod> make_method(const std::string& name, const YAML::Node& options, const std::string& where) {
  auto method = find_method(name, where).make();
  method->name_ = name;
  OptionSet set;
  method->declare(set);
  if (options.IsDefined() && !options.IsNull()) set.read(options, where);
  method->configure(where);
  return method;
}

std::unique_ptr<MergeMethod> make_method(const YAML::Node& entry, const std::string& where) {
  if (entry.IsScalar()) return make_method(entry.Scalar(), {}, where);
  require_input(entry.IsMap() && entry["method"].IsDefined() && entry["method"].IsScalar(),
                "{}: expected a method's name, or a map with `method` and its options", where);
  YAML::Node options = YAML::Clone(entry);
  options.remove("method");
  return make_method(entry["method"].Scalar(), options, where);
}

std::vector<OptionSet::Description> describe_options(const std::string& method) {
  const auto instance = find_method(method, "methods").make();
  OptionSet set;
  instance->declare(set);
  return set.describe();
}

}  // namespace amalgam
