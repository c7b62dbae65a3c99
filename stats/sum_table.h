#pragma once

#include <map>
#include <string>

#include "core/layer_table.h"
#include "core/tensor_source.h"
#include "stats/statistics.h"

namespace amalgam {

/// One sum of a statistics file.
struct SumInfo {
  TensorInfo tensor;
  std::string parameter;  ///< whose statistic it is; where it is unobserved the file may lack the sum
};

/// The sums that belong to a header's kinds and layers, by name: what a collector fills, and what a file must hold.
/// Note [Statistics file] in statistics.cpp says what they are.
/// @throws InputError if `header.parameter_shapes` lacks a parameter whose squared gradient is asked for, or its shape
/// does not fit the layer
std::map<std::string, SumInfo> sum_table(const StatisticsHeader& header);

/// The name that the input Gram matrix of a layer goes by: the first layer that is fed the same tensor *and* makes the
/// same rows of it. (A 1×1 and a 3×3 convolution of one tensor have Gram matrices of their own.)
std::string input_gram_owner(const LayerTable& table, const Layer& layer);

/// Parameters that several layers share in a way that one layer's gradients do not tell: parameter -> why it has no
/// squared gradient. An embedding that is also the output head is such a one: an example's gradient is the sum over
/// both layers, and that sum is to be squared, so that it would have to be held for each example. Row slices that do
/// not overlap are no such case.
std::map<std::string, std::string> entangled_parameters(const LayerTable& table);

}  // namespace amalgam
