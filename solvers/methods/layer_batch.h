#pragma once

#include <functional>
#include <vector>

#include "solvers/methods/method.h"

namespace amalgam {

/// The layers of a group, seen as one batch of L = Σ groups matrices [L, rows, columns] on the merge's device.
class LayerBatch {
 public:
  using OfLayer = std::function<at::Tensor(const LayerMatrix&)>;

  /// Both arguments must outlive this.
  LayerBatch(const MergeInput& input, const std::vector<LayerMatrix>& layers);

  const MergeInput& input() const { return input_; }
  int64_t items() const { return first_item_.back(); }
  int64_t rows() const { return layers_.front().rows(); }
  int64_t columns() const { return layers_.front().columns(); }
  const std::vector<LayerMatrix>& layers() const { return layers_; }

  /// One tensor [L, ...] of the given dtype from one [groups, ...] a layer.
  at::Tensor stack(const OfLayer& of_layer, at::ScalarType dtype) const;
  /// The layers of one source: [L, rows, columns].
  at::Tensor gather(const TensorSource& source, at::ScalarType dtype) const;
  /// Those of an expert.
  /// @throws InputError naming task and layer where a value is not finite
  at::Tensor gather(const ExpertInput& expert, at::ScalarType dtype) const;
  /// The layers' weighted mean over the experts.
  at::Tensor average(at::ScalarType dtype) const;
  /// What methods solve for is the change from here: the base, or the average where there is none.
  at::Tensor reference(at::ScalarType dtype) const;
  /// The inverse of `stack`: one [groups, rows, columns] a layer.
  std::vector<at::Tensor> split(const at::Tensor& batch) const;

  /// One report a layer from one an item: the most iterations and the largest condition, the worst residual and its
  /// history, the first failure, every note.
  std::vector<LayerReport> report(const std::vector<LayerReport>& items) const;

  /// Items of `merged` [L, rows, columns] where no expert has a say become the average; every layer's report notes who
  /// had none, and where.
  /// @param say  one [L] an expert, on the device: positive where it has a say
  void settle_unheard(const std::vector<at::Tensor>& say, at::Tensor& merged, std::vector<LayerReport>& reports) const;

 private:
  const MergeInput& input_;
  const std::vector<LayerMatrix>& layers_;
  std::vector<int64_t> first_item_;  // of each layer, and L at the end
};

}  // namespace amalgam
