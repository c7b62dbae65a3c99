#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace amalgam {

/// An einsum of two operands as the product of an activation and a weight matrix: output = Σ over the weight's summed
/// axes. Axes are not negative. Weight axes are in the order of the weight's memory, outermost first; the others follow
/// them.
struct ProductAxes {
  std::vector<int64_t> weight_units;  ///< the weight's axes that are the output's alone
  std::vector<int64_t> output_units;  ///< the same axes of the output
  std::vector<int64_t> weight_sums;   ///< the weight's axes that are summed over
  std::vector<int64_t> input_sums;    ///< the same axes of the activation
  std::vector<int64_t> input_lead;    ///< the activation's other axes, in the order of the output's
};

/// Reads an equation such as "bti,oi->bto", "...i,io->...o" or "oi,bit".
/// @param weight_first  whether the weight is the first operand
/// @return nothing where it is no such product: an axis that both have and the output too, an axis that is summed in
/// one of them alone, a diagonal, sizes that are broadcast
std::optional<ProductAxes> product_axes(const std::string& equation, const at::Tensor& weight, const at::Tensor& input,
                                        bool weight_first);

}  // namespace amalgam
