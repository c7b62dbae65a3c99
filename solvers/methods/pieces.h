#pragma once

#include <functional>
#include <string>

#include "solvers/methods/method.h"

namespace amalgam {

/// Takes one piece of a parameter.
/// @param piece  base and experts hold that piece alone, flat, under the parameter's name; everything else is the
/// input's
/// @param first  the place of its first element in the flat parameter
using TakePiece = std::function<void(const MergeInput& piece, int64_t first)>;
using MergePiece = std::function<at::Tensor(const MergeInput& piece, int64_t first)>;

/// Goes through a parameter from its first element to its last in pieces that stay in the processor's cache, a share of
/// `input.group_bytes`: so that what a method makes of one, in float32 for each expert, is never as large as the
/// parameter. On another device than the CPU there is one piece. Stored tensors are asked for once, and not copied.
/// @param unit  pieces begin at multiples of it, and no piece is smaller: the length of a row, say
void for_each_piece(const MergeInput& input, const std::string& name, const TakePiece& take, int64_t unit = 1);

/// The parameter that `merge` makes piece by piece, of its shape, rounded once to the dtype in which the experts are.
at::Tensor merge_in_pieces(const MergeInput& input, const std::string& name, const MergePiece& merge, int64_t unit = 1);

}  // namespace amalgam
