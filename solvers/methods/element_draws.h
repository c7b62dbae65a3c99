#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>

namespace amalgam {

/// One draw, uniform in [0, 1), for each element of one parameter of one task. It depends on the seed, the names and
/// the element's place alone: not on the order in which parameters are merged, on the other tasks, or on the process.
/// @param use  what the draws are for, so that no two methods share them
/// @param first  the place of the first element that is asked for
/// @return of shape `sizes`, float64, on the CPU
at::Tensor element_draws(uint64_t seed, const std::string& use, const std::string& task, const std::string& parameter,
                         at::IntArrayRef sizes, int64_t first = 0);

}  // namespace amalgam
