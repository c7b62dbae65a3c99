#pragma once

#include <optional>
#include <string>

#include "solvers/methods/inner_method.h"

namespace amalgam {

/// Another method, `inner`, whose change of a layer is held back at the inputs that are large:
///
///   W = W0 + (W' − W0) diag(1 − (1 − ω) a / max a),  a_i = √(E x_i²)
///
/// W' is inner's, W0 the base's, x the layer's input (a convolution's: channel and position of the kernel). ω = 1 is
/// inner alone; at ω = 0 the largest input's column stays the base's. a is of the base on data of its own where
/// its statistics hold the layer, else the root of the mean of E x² over the experts that have a say: then what tasks
/// rely on most is held back most. Biases and what is no linear or convolutional layer are as inner makes them, and so
/// is a layer that never had any input.
///
/// What runs the models is refused as `inner`, since they would run without anything held back; and what keeps parts of
/// tasks, which would be lost.
/// @source Nobari et al. 2025, Activation-Informed Merging of Large Language Models (ω 0.4; a the mean of |x| of the
///         base on general text, norms' weights held back likewise). The root mean square stands for it here,
///         because Gram matrices hold it
class Aim final : public InnerMethod {
 public:
  MethodRequirements requirements() const override;
  std::string memory_key() const override { return inner().memory_key(); }
  void plan(const MergeInput& input) override;
  GroupResult merge_group(const MergeInput& input, const MergeGroup& group, const Checkpoint& checkpoint) override;

 protected:
  void declare_options(OptionSet& set) override;
  void configure(const std::string& where) override;

 private:
  std::optional<at::Tensor> shares(const MergeInput& input, const LayerMatrix& layer) const;
  at::Tensor held_back(const MergeInput& input, const LayerMatrix& layer, const at::Tensor& merged) const;
  at::Tensor held_back(const MergeInput& input, const std::string& parameter, const at::Tensor& merged) const;

  double omega_ = 0.4;  ///< ω
  MergeInput selected_;
};

}  // namespace amalgam
