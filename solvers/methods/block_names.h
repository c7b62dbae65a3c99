#pragma once

#include <string>
#include <vector>

namespace amalgam {

/// "encoder.layer.3." of "encoder.layer.3.query.weight": up to the first part between dots that is a number. Empty
/// where there is none.
std::string numbered_prefix(const std::string& name);

/// "encoder.layer." of "encoder.layer.3.": a numbered prefix without its number.
std::string stack_of(const std::string& prefix);

/// The numbered prefixes of one stack of blocks, in the order of their numbers.
/// @param names  of parameters
/// @param stack  "encoder.layer."; empty: the stack that most names belong to
/// @return empty where no name belongs to a stack, or to that one
/// @throws InputError naming both where two stacks have equally many names and none is given
std::vector<std::string> blocks_of_stack(const std::vector<std::string>& names, const std::string& stack);

}  // namespace amalgam
