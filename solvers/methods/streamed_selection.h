#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

namespace amalgam {

/// Takes one piece of one stream: `values` of any shape, floating, on any device.
using TakeValues = std::function<void(size_t stream, const at::Tensor& values)>;

/// Hands every piece of every stream to `take`, in any order: the task vectors of a model, say, parameter by parameter.
using GiveValues = std::function<void(const TakeValues& take)>;

/// The k-th largest value of a stream.
struct RankedValue {
  float value = std::numeric_limits<float>::infinity();
  int64_t place = 0;  ///< how many of the values that equal it are among the k largest; of rank 0: none

  bool operator==(const RankedValue&) const = default;
};

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
/// @return [streams][ranks]; a zero is plus zero
/// @throws c10::Error if a stream is shorter than a rank, or holds NaN
std::vector<std::vector<RankedValue>> kth_largest(size_t streams, const std::vector<int64_t>& ranks,
                                                  const GiveValues& give);

/// Marks the k largest values of a stream, given piece by piece from its beginning: of those equal to the k-th the
/// earlier ones. Values are compared as float32.
class LargestMask {
 public:
  explicit LargestMask(const RankedValue& kth) : kth_(kth.value), left_(kth.place) {}

  /// @return bool, of the piece's shape and device
  at::Tensor operator()(const at::Tensor& values);

 private:
  float kth_;
  int64_t left_;  // of values equal to the k-th
};

}  // namespace amalgam
