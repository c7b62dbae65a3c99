#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "stats/statistics.h"

namespace amalgam {

/// What the sums of one layer take, in bytes: while they grow, and in the file.
struct LayerCost {
  std::string layer;
  int64_t input_gram = 0, output_gram = 0, squared_gradient = 0, gradient_gram = 0, other = 0;

  int64_t total() const { return input_gram + output_gram + squared_gradient + gradient_gram + other; }
};

/// How a collection goes over the data: in one pass, or in several over groups of layers, so that the sums of one pass
/// fit into a budget.
struct CollectionPlan {
  std::vector<LayerCost> costs;     ///< in the table's order; a sum that layers share counts at the first of them
  std::vector<LayerTable> passes;   ///< the layers of each pass; together the whole table
  std::vector<int64_t> pass_bytes;  ///< that the sums of each pass take

  int64_t total() const;
  int64_t largest_pass() const;
};

/// @param header  of what will be collected (`header_of_collection`)
/// @param budget  bytes that sums may take at a time; 0: no limit. Layers that share a sum stay in one pass.
/// @throws InputError naming the layer that does not fit on its own
CollectionPlan plan_collection(const StatisticsHeader& header, int64_t budget);

/// One statistic of the parts that several passes over the same examples made.
/// @param layers  the whole table
/// @param parts   of the passes, of at least one; they stay mapped as long as the result lives
Statistics join_layers(const LayerTable& layers, const std::vector<Statistics>& parts);

}  // namespace amalgam
