#pragma once

#include <c10/util/accumulate.h>

#include "core/tensor_source.h"

namespace amalgam {

/// What a stored tensor takes; a double, for sums over models.
inline double bytes_of(const TensorInfo& info) {
  return static_cast<double>(c10::multiply_integers(info.shape)) * static_cast<double>(c10::elementSize(info.dtype));
}

}  // namespace amalgam
