#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/tensor_source.h"

namespace amalgam {

/// A change of a weight [out, in] as a product of two thin factors: ΔW = up · down. LoRA's B and A, the scale in B.
struct LowRank {
  at::Tensor down;  ///< [rank, in]
  at::Tensor up;    ///< [out, rank]

  int64_t rank() const { return down.size(0); }
  at::Tensor product() const { return up.mm(down); }  ///< [out, in]
};

/// Under which names a source holds the factors of the weight "body.fc.weight": "body.fc.weight.lora_A", `down`, and
/// "body.fc.weight.lora_B", `up`.
std::string down_name(const std::string& weight);
std::string up_name(const std::string& weight);

/// The weights of which a source holds factors, in the order of their names.
std::vector<std::string> adapted_weights(const TensorSource& adapter);

/// @param options  device and dtype to read into
/// @throws InputError if the source has no factors of the weight
LowRank read_low_rank(const TensorSource& adapter, const std::string& weight, const at::TensorOptions& options);

struct Truncation {
  LowRank factors;
  double squared_error = 0, squared_norm = 0;  ///< of what was left out, and of the whole: ‖ΔW − up · down‖², ‖ΔW‖²
};

/// The best approximation of a matrix by one of a rank: its first singular triplets, up = U √S, down = √S Vᵀ. Computed
/// in float64; a rank above the matrix's smaller side is filled up with zeros, so that all factors have one.
/// @param change  [out, in], finite
/// @return factors in float32 (float64 for a float64 matrix), on the matrix's device
/// @source Eckart & Young 1936
Truncation truncate(const at::Tensor& change, int64_t rank);

}  // namespace amalgam
