#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/layer_table.h"
#include "core/tensor_source.h"
#include "stats/statistics.h"

namespace amalgam {

/// One sum of a statistics file.
struct SumInfo {
  TensorInfo tensor;
  std::string parameter;  ///< whose statistic it is; where it is unobserved the file may lack the sum
  std::string layer;      ///< the first layer that it belongs to
};

/// The sums that belong to a header's kinds and layers, by name: what a collector fills, and what a file must hold.
/// Note [Statistics file] in statistics.cpp says what they are.
/// @throws InputError if `header.parameter_shapes` lacks a parameter whose squared gradient or gradient Gram matrix is
/// asked for, or its shape does not fit the layer
std::map<std::string, SumInfo> sum_table(const StatisticsHeader& header);

/// Which Gram matrices of a header's kinds and layers are kept in blocks (`StatisticsHeader::blocks`).
/// @param block_size  wider matrices are cut to blocks of so many columns; 0: none is
/// @param diagonal    patterns of the names of layers whose matrices are cut to their diagonals
std::map<std::string, int64_t> gram_blocks(const StatisticsHeader& header, int64_t block_size,
                                           const std::vector<std::string>& diagonal);

/// "input_gram" or "reduced_input_gram"; of "input_sum", "output_gram" and "rows" alike.
std::string sum_name(const std::string& sum, KroneckerForm form);

/// Whether a layer has Gram matrices: linear and convolutional layers do, but for a head whose weight is an embedding's
/// too. No method merges such a weight by its layers, and over a vocabulary the head's output Gram matrix would be the
/// largest sum by far.
bool has_grams(const LayerTable& table, const Layer& layer);

/// The names of the sums of such heads: files that were written while they had Gram matrices hold them. They are passed
/// over.
std::set<std::string> former_sums(const StatisticsHeader& header);

/// The name that the input Gram matrix of a layer goes by: the first layer with Gram matrices that is fed the same
/// tensor *and* makes the same rows of it. (A 1×1 and a 3×3 convolution of one tensor have Gram matrices of their own.)
std::string input_gram_owner(const LayerTable& table, const Layer& layer);

/// An embedding and the linear layer that has the same weight, whole: an output head, as a rule.
struct TiedWeight {
  const Layer* embedding = nullptr;
  const Layer* head = nullptr;
};

/// The tied weights of a table, by parameter: those that no third layer shares.
std::map<std::string, TiedWeight> tied_weights(const LayerTable& table);

/// Parameters that several layers share in a way that is not understood: parameter -> why it has no squared gradient,
/// and no gradient Gram matrix.
/// An example's gradient is the sum over all of them, and that sum is to be squared, so that it would have to be held
/// for each example. Row slices that do not overlap, and tied weights, are no such case.
std::map<std::string, std::string> entangled_parameters(const LayerTable& table);

}  // namespace amalgam
