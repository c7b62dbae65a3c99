#pragma once

#include <vector>

#include "core/process_group.h"
#include "solvers/methods/method.h"

namespace amalgam {

/// What merging a group takes, roughly, in multiplications: of a layer groups · (rows² columns + rows columns²) an
/// expert, which both a factorisation and an iteration are a multiple of; of a parameter its elements an expert.
double merge_cost(const MergeGroup& group, const MergeInput& input);

/// Which process takes which piece of work: the most costly first, each to the process that has the least so far. Of
/// equal ones the earlier piece, and the process of the lower number.
/// @param costs  of each piece
/// @param busy   what each process has to do besides; its size is the number of processes
std::vector<int> share_out(const std::vector<double>& costs, std::vector<double> busy);

/// A group's result as it is kept and sent: on the CPU, contiguous, in the dtype that the experts store it in, where
/// the group's tensors share one.
GroupResult settled(GroupResult result, const MergeGroup& group, const MergeInput& input);

/// Hands a settled result of process `from` to the root; only these two need to call. Residuals and the like that are
/// not finite arrive as NaN.
/// @return the result, on the root
GroupResult to_root(const GroupResult& result, const MergeGroup& group, const ProcessGroup& processes, int from);

}  // namespace amalgam
