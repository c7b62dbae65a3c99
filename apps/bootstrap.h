#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

namespace amalgam {

/// Two rows on the same examples of one task.
struct PairedTask {
  at::Tensor difference;  ///< float64 [N]: right targets of the one row less those of the other
  at::Tensor count;       ///< float64 [N]: targets of the example
  double scale = 1;       ///< what an accuracy is a share of: the expert's. It is taken as known, not drawn.
};

struct Interval {
  double difference = 0;     ///< on the examples themselves
  double low = 0, high = 0;  ///< 2.5 % and 97.5 % of the draws
};

/// How far the mean normalised accuracy of one row is above that of another, with a 95 % interval: the paired bootstrap
/// over examples.
///
///   difference = 1/T Σ_t (Σ_n d_tn / Σ_n c_tn) / scale_t
///
/// A draw takes as many examples of each task as there are, with replacement, the same for both rows. Examples of equal
/// (d, c) are alike, so that the draw is of how often each kind occurs: multinomial. The interval speaks of other
/// examples of these tasks, not of other seeds or tasks.
/// @throws InputError if there is no task, or one without examples, or shapes or scales that do not fit
/// @source Efron 1979; Koehn 2004 (paired)
Interval paired_bootstrap(const std::vector<PairedTask>& tasks, uint64_t seed, int64_t draws = 2000);

}  // namespace amalgam
