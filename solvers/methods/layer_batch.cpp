#include "solvers/methods/layer_batch.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "solvers/methods/average.h"

namespace amalgam {

LayerBatch::LayerBatch(const MergeInput& input, const std::vector<LayerMatrix>& layers)
    : input_(input), layers_(layers), first_item_{0} {
  TORCH_CHECK(!layers.empty(), "LayerBatch: no layers");
  for (const LayerMatrix& layer : layers) {
    TORCH_CHECK(layer.rows() == rows() && layer.columns() == columns(), "LayerBatch: layers ",
                layers.front().layer().name, " and ", layer.layer().name, " differ in shape");
    first_item_.push_back(first_item_.back() + layer.groups());
  }
}

at::Tensor LayerBatch::stack(const OfLayer& of_layer, at::ScalarType dtype) const {
  at::Tensor batch;  // made by the first layer's trailing sizes, so that no layer is held twice
  for (size_t i = 0; i < layers_.size(); ++i) {
    const at::Tensor part = of_layer(layers_[i]);
    if (!batch.defined()) {
      std::vector<int64_t> sizes = part.sizes().vec();
      sizes[0] = items();
      batch = at::empty(sizes, at::TensorOptions(input_.device).dtype(dtype));
    }
    batch.slice(0, first_item_[i], first_item_[i + 1]).copy_(part);
  }
  return batch;
}

at::Tensor LayerBatch::gather(const TensorSource& source, at::ScalarType dtype) const {
  const auto options = at::TensorOptions(input_.device).dtype(dtype);
  return stack([&](const LayerMatrix& layer) { return layer.gather(source, options); }, dtype);
}

at::Tensor LayerBatch::gather(const ExpertInput& expert, at::ScalarType dtype) const {
  const at::Tensor batch = gather(*expert.tensors, dtype);
  if (batch.isfinite().all().item<bool>()) return batch;
  const std::vector<at::Tensor> of_layer = split(batch);
  for (size_t i = 0; i < layers_.size(); ++i)
    require_input(of_layer[i].isfinite().all().item<bool>(),
                  "layer '{}' of expert '{}' holds a value that is not finite; mend or retrain that expert",
                  layers_[i].layer().name, expert.task);
  return batch;
}

at::Tensor LayerBatch::average(at::ScalarType dtype) const {
  return mean_of_experts(input_)([&](size_t expert) { return gather(*input_.experts[expert].tensors, dtype); });
}

at::Tensor LayerBatch::reference(at::ScalarType dtype) const {
  return input_.base != nullptr ? gather(*input_.base, dtype) : average(dtype);
}

std::vector<at::Tensor> LayerBatch::split(const at::Tensor& batch) const {
  std::vector<at::Tensor> parts;
  for (size_t i = 0; i < layers_.size(); ++i) parts.push_back(batch.slice(0, first_item_[i], first_item_[i + 1]));
  return parts;
}

std::vector<LayerReport> LayerBatch::report(const std::vector<LayerReport>& items) const {
  std::vector<LayerReport> reports;
  for (size_t i = 0; i < layers_.size(); ++i) {
    const auto begin = items.begin() + first_item_[i], end = items.begin() + first_item_[i + 1];
    LayerReport report = *std::max_element(
        begin, end, [](const LayerReport& a, const LayerReport& b) { return a.residual < b.residual; });
    report.layer = layers_[i].layer().name;
    for (auto item = begin; item != end; ++item) {
      report.iterations = std::max(report.iterations, item->iterations);
      for (const std::string& note : item->notes)
        if (std::ranges::count(report.notes, note) == 0) report.notes.push_back(note);
      if (!item->diagnostics || !item->diagnostics->condition) continue;
      std::optional<double>& condition = report.diagnostics->condition;
      condition = std::max(condition.value_or(0.0), *item->diagnostics->condition);
    }
    const auto failed = std::find_if(begin, end, [](const LayerReport& item) { return !item.converged; });
    if (failed != end) {
      report.converged = false;
      report.why = failed->why;
    }
    reports.push_back(std::move(report));
  }
  return reports;
}

void LayerBatch::settle_unheard(const std::vector<at::Tensor>& say, at::Tensor& merged,
                                std::vector<LayerReport>& reports) const {
  const at::Tensor has_say = at::stack(say).gt(0);  // bool [experts, L]
  const at::Tensor heard = has_say.any(0);          // bool [L]
  const at::Tensor on_host = at::cat({has_say, heard.unsqueeze(0)}).cpu();
  const auto flags = on_host.accessor<bool, 2>();
  const auto last = static_cast<int64_t>(say.size());
  const auto note = [&](int64_t row, const std::string& text) {
    for (size_t i = 0; i < layers_.size(); ++i) {
      int64_t missing = 0;
      for (int64_t item = first_item_[i]; item < first_item_[i + 1]; ++item) missing += flags[row][item] ? 0 : 1;
      const int64_t groups = layers_[i].groups();
      if (missing == 0) continue;
      reports[i].notes.push_back(groups == 1 ? text : fmt::format("{} ({} of {} groups)", text, missing, groups));
    }
  };
  for (int64_t row = 0; row < last; ++row) {
    const ExpertInput& expert = input_.experts[static_cast<size_t>(row)];
    if (expert.weight > 0) note(row, fmt::format("task '{}' has no say: its factors are zero here", expert.task));
  }
  note(last, "averaged: no task has a say");
  if (!on_host[last].all().item<bool>())
    merged = at::where(heard.view({-1, 1, 1}), merged, average(merged.scalar_type()));
}

}  // namespace amalgam
