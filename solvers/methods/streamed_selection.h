#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace amalgam {

/// Takes one piece of one stream: `values` of any shape, floating, on any device.
using TakeValues = std::function<void(size_t stream, const at::Tensor& values)>;

/// Hands every piece of every stream to `take`, in any order: the task vectors of a model, say, parameter by parameter.
using GiveValues = std::function<void(const TakeValues& take)>;

/// The k-th largest value of each stream, exactly, without holding a stream: by a histogram of the upper 16 bits of the
/// values and then one of the lower 16 bits where the k-th falls, so that a stream takes 0.5 MiB for each of its two
/// passes and rank, whatever its length.
///
/// Values are compared as float32. Those that are stored in float64 are rounded to it first, and so what is compared
/// with the result must be rounded too: values that differ by less than float32 resolves count as equal.
///
/// @param streams  how many there are
/// @param ranks    k, from 0 to the length that every stream has; 0 gives +∞, which no value reaches
/// @param give     called twice; must give the same values both times
/// @return [streams][ranks]; of equal zeros the sign is not told
/// @throws c10::Error if a stream is shorter than a rank, or holds NaN
std::vector<std::vector<float>> kth_largest(size_t streams, const std::vector<int64_t>& ranks, const GiveValues& give);

}  // namespace amalgam
