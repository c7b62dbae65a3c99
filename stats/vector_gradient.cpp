#include "stats/vector_gradient.h"

#include <algorithm>

#include "stats/rows.h"

namespace amalgam {
namespace {

// [N, out] of one use.
at::Tensor of_use(const Layer& layer, const LayerUse& use, int64_t limit_bytes) {
  const int64_t bytes = positions_of(layer, use) * layer.out * static_cast<int64_t>(sizeof(double));
  std::vector<at::Tensor> parts;
  for_each_chunk(examples_of(use), bytes, limit_bytes, [&](int64_t begin, int64_t count) {
    const LayerUse part = narrow(use, begin, count);
    parts.push_back((without_half_precision(part.output_gradient) * without_half_precision(part.input)).sum(1));
  });
  return parts.size() == 1 ? parts[0] : at::cat(parts);
}

}  // namespace

bool is_vector(const std::vector<int64_t>& shape) {
  return std::count(shape.begin(), shape.end(), 0) == 0 &&
         std::count_if(shape.begin(), shape.end(), [](int64_t size) { return size != 1; }) <= 1;
}

bool is_vector(const Layer& layer, const std::string& parameter, const std::vector<int64_t>& shape) {
  const bool seen = parameter == layer.bias || !(has_rows(layer) || layer.kind == LayerKind::kEmbedding);
  return seen && is_vector(shape);
}

at::Tensor weight_vector_gradients(const Layer& layer, const std::vector<LayerUse>& uses, int64_t limit_bytes) {
  at::Tensor gradients;  // [N, out]
  for (const LayerUse& use : uses) {
    if (!use.output_gradient.defined()) continue;
    const at::Tensor gradient = of_use(layer, use, limit_bytes);
    gradients = gradients.defined() ? gradients + gradient : gradient;
  }
  return gradients;
}

at::Tensor bias_gradients(const std::vector<LayerUse>& uses) {
  at::Tensor gradients;  // [N, out]
  for (const LayerUse& use : uses) {
    if (!use.output_gradient.defined()) continue;
    const at::Tensor gradient = without_half_precision(use.output_gradient).sum(1);
    gradients = gradients.defined() ? gradients + gradient : gradient;
  }
  return gradients;
}

}  // namespace amalgam
