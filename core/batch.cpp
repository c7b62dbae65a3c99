#include "core/batch.h"

namespace amalgam {

Batch Batch::to(at::Device device) const {
  Batch moved = *this;
  for (auto& input : moved.inputs) input = input.to(device, /*non_blocking=*/true);
  if (moved.target.defined()) moved.target = moved.target.to(device, /*non_blocking=*/true);
  if (moved.mask.defined()) moved.mask = moved.mask.to(device, /*non_blocking=*/true);
  return moved;
}

}  // namespace amalgam
