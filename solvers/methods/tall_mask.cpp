#include "solvers/methods/tall_mask.h"

namespace amalgam {

at::Tensor tall_mask(const at::Tensor& change, const at::Tensor& multi_task, double scale) {
  return change.abs() > (multi_task - change).abs_().mul_(scale);
}

}  // namespace amalgam
