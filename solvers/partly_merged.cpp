#include "solvers/partly_merged.h"

namespace amalgam {

NamedTensors PartlyMerged::over(const TensorSource& expert) const {
  NamedTensors values = merged_, own;  // own: clones, since rows of them are written
  for (size_t i = next_; i < pending_.size(); ++i) {
    const LayerMatrix& layer = pending_[i];
    std::vector<std::string> names = {layer.layer().weight};
    if (layer.with_bias()) names.push_back(layer.layer().bias);
    bool partly = false;
    for (const std::string& name : names) partly = partly || merged_.contains(name);
    if (!partly) continue;
    for (const std::string& name : names) {
      if (own.contains(name)) continue;
      const auto found = merged_.find(name);
      own[name] = (found == merged_.end() ? expert.get(name) : found->second).clone(at::MemoryFormat::Contiguous);
    }
    layer.scatter(layer.gather([&](const std::string& name) { return expert.get(name); }), own);
  }
  for (auto& [name, tensor] : own) values[name] = std::move(tensor);
  return values;
}

}  // namespace amalgam
