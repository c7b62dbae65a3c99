#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/options.h"

namespace amalgam {

/// `protocol` of a recipe: every row merged of subsets of the experts, and scored on all tasks.
struct ProtocolSpec {
  int64_t subsets = 0;                ///< of each size; 0: no protocol
  std::vector<int64_t> sizes;         ///< numbers of experts; empty: 2 … all that are not held out
  std::vector<std::string> held_out;  ///< tasks that are scored only

  bool is_on() const { return subsets > 0; }
  void declare(OptionSet& set);
};

/// The subsets of the tasks that a protocol asks for, by number: `draw_subsets` of those that are not held out.
/// @param spec  as `resolve_protocol` left it
std::vector<std::vector<size_t>> subsets_of(const ProtocolSpec& spec, const std::vector<std::string>& tasks,
                                            uint64_t seed);

/// Checks a protocol against the tasks' names, and fills in the sizes.
/// @throws InputError
void resolve_protocol(ProtocolSpec& spec, const std::vector<std::string>& tasks);

/// Subsets of the experts: of each size `count` different ones that the seed draws, or all where there are no more.
/// Numbers within a subset ascend; subsets of a size come in the order of their drawing, or, where they are all, in
/// lexical order. A larger `count` only adds subsets at the end, unless it comes to all.
/// @param experts  the numbers of those that may be merged
std::vector<std::vector<size_t>> draw_subsets(const std::vector<size_t>& experts, const std::vector<int64_t>& sizes,
                                              int64_t count, uint64_t seed);

}  // namespace amalgam
