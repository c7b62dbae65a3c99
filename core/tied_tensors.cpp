#include "core/tied_tensors.h"

#include <algorithm>
#include <cstring>
#include <set>

namespace amalgam {
namespace {

bool is_matrix(const TensorInfo& info) {
  return info.shape.size() > 1 && std::ranges::none_of(info.shape, [](int64_t size) { return size == 0; });
}

bool same_bytes(const TensorSource& model, const std::string& a, const std::string& b) {
  const at::Tensor one = model.get(a).contiguous(), other = model.get(b).contiguous();
  return std::memcmp(one.const_data_ptr(), other.const_data_ptr(), one.nbytes()) == 0;
}

/// Whether `name` is `owner` in every model that holds it; all hold `owner`.
bool is_tied(const std::vector<const TensorSource*>& models, const std::string& name, const std::string& owner) {
  return std::ranges::all_of(models, [&](const TensorSource* model) {
    const auto own = model->infos().find(name);
    return own == model->infos().end() || (own->second == model->infos().at(owner) && same_bytes(*model, name, owner));
  });
}

}  // namespace

std::map<std::string, std::string> tied_tensors(const std::vector<const TensorSource*>& models) {
  std::set<std::string> names, everywhere;
  for (const TensorSource* model : models)
    for (const auto& [name, info] : model->infos())
      if (is_matrix(info)) names.insert(name);
  std::ranges::copy_if(names, std::inserter(everywhere, everywhere.end()), [&](const std::string& name) {
    return std::ranges::all_of(models, [&](const TensorSource* model) { return model->contains(name); });
  });
  std::map<std::vector<int64_t>, std::vector<std::string>> owners;  // by shape in the first model
  std::map<std::string, std::string> tied;
  const auto visit = [&](const std::string& name, bool may_own) {
    const auto* holder =
        *std::ranges::find_if(models, [&](const TensorSource* model) { return model->contains(name); });
    auto& candidates = owners[holder->infos().at(name).shape];
    const auto owner = std::ranges::find_if(
        candidates, [&](const std::string& candidate) { return is_tied(models, name, candidate); });
    if (owner != candidates.end()) {
      tied[name] = *owner;
    } else if (may_own) {
      candidates.push_back(name);
    }
  };
  for (const std::string& name : everywhere) visit(name, true);
  for (const std::string& name : names)
    if (!everywhere.contains(name)) visit(name, false);
  return tied;
}

}  // namespace amalgam
