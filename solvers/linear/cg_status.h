#pragma once

#include <cstdint>

namespace amalgam {

/// What an item of a batch of conjugate gradients is doing. Kept on the device as int8 [L].
enum CgStatus : int8_t {
  kRunning,
  kConverged,
  kNegativeCurvature,
  kNoCurvature,
  kNotFinite,
  kIndefinitePreconditioner,
  kOutOfReach,
  kDiverged,
  kTimeLimit,
  kRounding
};

/// Why an item stopped there, in words.
const char* describe(CgStatus status);

}  // namespace amalgam
