#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <string>

#include "core/layer_table.h"
#include "core/tensor_source.h"

namespace amalgam {

/// One linear or convolutional layer as the matrices that methods solve for: [groups, rows, columns], a group's output
/// units by its inputs (times the kernel's positions), with the bias as a last column where it is merged with the
/// weight.
///
/// Row slices (of a packed query/key/value weight), weights stored [in, out] and grouped convolutions are undone by
/// `gather` and done again by `scatter`.
class LayerMatrix {
 public:
  /// @param layer      linear or convolution; must outlive this
  /// @param with_bias  the bias is a last column
  LayerMatrix(const Layer& layer, bool with_bias);

  const Layer& layer() const { return *layer_; }
  bool with_bias() const { return with_bias_; }
  int64_t groups() const { return layer_->groups; }
  int64_t rows() const { return layer_->out / layer_->groups; }
  int64_t columns() const { return layer_->in + (with_bias_ ? 1 : 0); }

  /// [groups, rows, columns] from the tensors that `read` gives for parameter names; their dtype and device.
  /// @throws c10::Error if a parameter has not the size that the layer says
  at::Tensor gather(const std::function<at::Tensor(const std::string&)>& read) const;
  /// The same from a source, moved and converted.
  at::Tensor gather(const TensorSource& source, const at::TensorOptions& options) const;

  /// Writes the matrices into the parameters, which are there already, in their own dtype and device.
  void scatter(const at::Tensor& matrices, NamedTensors& parameters) const;

 private:
  at::Tensor weight_view(const at::Tensor& weight) const;  // [out, in], a view for a contiguous weight
  at::Tensor bias_view(const at::Tensor& bias) const;      // [out]

  const Layer* layer_;
  bool with_bias_;
};

}  // namespace amalgam
