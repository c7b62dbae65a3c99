#pragma once

#include "datasets/formats.h"

namespace amalgam {

/// Any data, as tensors: `train.safetensors`, `val.safetensors` (optional) and `test.safetensors`, each with inputs by
/// position (`input.0`, `input.1`, …) or by the names that the model's forward gives them (`input.attention_mask`),
/// `target` and optionally `mask`. The first axis of each is the example; shapes and dtypes are free but for: `target`
/// is integer (class labels [N], or [N, T] where negative ones are ignored) or floating; `mask` is bool
/// or integer (not 0: the row counts). Integer targets become int64, masks bool; inputs stay as they are stored (what a
/// Dataset makes of uint8 images: dataset.h). The files are mapped, not read.
DataFormat tensors_format();

}  // namespace amalgam
