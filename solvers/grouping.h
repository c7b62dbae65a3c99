#pragma once

#include <string>
#include <vector>

#include "solvers/methods/method.h"

namespace amalgam {

/// A parameter, or some rows of one, that a method leaves aside: it is averaged (the first expert's, where it is not
/// floating).
struct Fallback {
  std::string parameter;
  std::string why;
  bool rows_only = false;  ///< other rows of it are merged by the method
};

struct Grouping {
  std::vector<MergeGroup> groups;
  std::vector<Fallback> fallbacks;
};

/// Decides what a method merges and what falls back. Methods that merge parameters get them one by one; methods that
/// merge layers get linear and convolutional layers of equal [rows, columns] together, up to `group_bytes` or a 32nd of
/// what all layers take, if that is less but not below 64 MiB, so that processes can share the groups; one that merges
/// block by block (`block_of`) gets each block as a group, in the order in which the blocks begin. A layer
/// falls back if the user's patterns leave its weight out, if a task lacks a statistic of it, or if its weight is also
/// another layer's (an embedding tied to a head). A bias that is private or left out stays out of its layer's matrix.
/// What layers leave aside is merged by itself where the method merges `vectors` and every expert has its gradient Gram
/// matrix.
/// @param input  must outlive the groups
Grouping form_groups(const MergeMethod& method, const MergeInput& input);

/// What a layer takes on the device while it is solved, roughly: the factors of every expert, and ten matrices of its
/// own size, in float64. A group takes the sum over its layers.
int64_t working_bytes(const LayerMatrix& layer, size_t experts);

}  // namespace amalgam
