#pragma once

#include <string>
#include <vector>

#include "stats/statistics.h"

namespace amalgam {

/// Statistics of some of the examples.
struct StatisticsShard {
  std::string name;  ///< of the file: for messages
  Statistics statistics;
};

/// The statistics of all the shards' examples: each sum is the sum of the shards' sums.
///
/// The shards must be of one expert, data set and order of examples (`seed`), collected in one way, over ranges of
/// examples that do not overlap. They are added in the order of their ranges, in the dtype of the sums, so that the
/// order of the arguments does not matter, not for a bit.
///
/// - A sum that a shard lacks counts as zero there: its layer did not run for these examples, or no gradient reached
///   it. Squared gradients and gradient Gram matrices of a parameter of several layers are another matter, as the shard
///   lacks them where only some of the layers ran; the result then leaves them out, and says so in `unobserved`.
/// - Unobserved are the parameters that are so in all shards, with what each shard gives as the reason.
///
/// Nothing is read here: the result's sums are added, one at a time, when they are asked for.
/// @throws InputError if there is no shard, fields differ (naming the field, both values and both files) or ranges
/// overlap (naming both files)
Statistics add_statistics(std::vector<StatisticsShard> shards);

}  // namespace amalgam
