#pragma once

#include <vector>

#include "core/tensor_source.h"
#include "solvers/layer_matrix.h"

namespace amalgam {

/// A model on its way: merged where the merge has been, an expert's own where it has not.
class PartlyMerged {
 public:
  /// @param merged   the driver's result as it grows; must outlive this
  /// @param pending  the layers that are still to be merged. What they cover of `merged` is not looked at
  PartlyMerged(const NamedTensors& merged, std::vector<LayerMatrix> pending)
      : merged_(merged), pending_(std::move(pending)) {}

  /// The first `layers` of the pending ones are merged now.
  void advance(size_t layers) { next_ += layers; }

  /// What such a model has in place of the expert's tensors, each in the dtype it is stored in. A parameter of which
  /// some rows are pending (a packed one, merged slice by slice) has the expert's in these rows.
  NamedTensors over(const TensorSource& expert) const;

 private:
  const NamedTensors& merged_;
  std::vector<LayerMatrix> pending_;
  size_t next_ = 0;
};

}  // namespace amalgam
