#pragma once

#include "datasets/formats.h"

namespace amalgam {

/// Grey images with class labels in IDX files, plain or with `.gz`:
/// `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`; the same with `val-`; the same with `test-` or `t10k-`.
/// Examples: inputs {uint8 [N, 1, H, W]}, target int64 [N].
DataFormat idx_format();

}  // namespace amalgam
