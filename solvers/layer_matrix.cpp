#include "solvers/layer_matrix.h"

namespace amalgam {

LayerMatrix::LayerMatrix(const Layer& layer, bool with_bias) : layer_(&layer), with_bias_(with_bias) {
  TORCH_CHECK(layer.kind == LayerKind::kLinear || layer.kind == LayerKind::kConvolution, "layer ", layer.name, " is a ",
              name_of(layer.kind), ", no matrix");
  TORCH_CHECK(layer.row_end - layer.row_begin == layer.out, "layer ", layer.name, ": rows [", layer.row_begin, ", ",
              layer.row_end, ") are not its ", layer.out, " output units");
  TORCH_CHECK(layer.groups >= 1 && layer.out % layer.groups == 0, "layer ", layer.name, ": ", layer.out,
              " output units in ", layer.groups, " groups");
  TORCH_CHECK(!with_bias || !layer.bias.empty(), "layer ", layer.name, " has no bias");
}

at::Tensor LayerMatrix::weight_view(const at::Tensor& weight) const {
  const int64_t units = weight.size(layer_->transposed ? 1 : 0);
  TORCH_CHECK(layer_->row_end <= units && weight.numel() == units * layer_->in, "layer ", layer_->name, ": weight ",
              layer_->weight, " has sizes ", weight.sizes(), ", expected ", units, " units of ", layer_->in, " inputs");
  const at::Tensor matrix = layer_->transposed ? weight.t() : weight.reshape({units, layer_->in});
  return matrix.slice(0, layer_->row_begin, layer_->row_end);
}

at::Tensor LayerMatrix::bias_view(const at::Tensor& bias) const {
  TORCH_CHECK(bias.dim() == 1 && layer_->row_end <= bias.size(0), "layer ", layer_->name, ": bias ", layer_->bias,
              " has sizes ", bias.sizes());
  return bias.slice(0, layer_->row_begin, layer_->row_end);
}

at::Tensor LayerMatrix::gather(const std::function<at::Tensor(const std::string&)>& read) const {
  const at::Tensor weight = weight_view(read(layer_->weight));
  if (!with_bias_) return weight.reshape({groups(), rows(), layer_->in});
  return at::cat({weight, bias_view(read(layer_->bias)).unsqueeze(1)}, 1).view({groups(), rows(), columns()});
}

at::Tensor LayerMatrix::gather(const TensorSource& source, const at::TensorOptions& options) const {
  return gather([&](const std::string& name) { return source.get(name).to(options); });
}

void LayerMatrix::scatter(const at::Tensor& matrices, NamedTensors& parameters) const {
  const at::Tensor matrix = matrices.reshape({layer_->out, columns()});
  at::Tensor& weight = parameters.at(layer_->weight);
  TORCH_CHECK(weight.is_contiguous(), "LayerMatrix::scatter: ", layer_->weight, " is not contiguous");
  weight_view(weight).copy_(matrix.slice(1, 0, layer_->in));
  if (with_bias_) bias_view(parameters.at(layer_->bias)).copy_(matrix.select(1, layer_->in));
}

}  // namespace amalgam
