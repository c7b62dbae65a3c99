#include "solvers/linear/cg_status.h"

namespace amalgam {

const char* describe(CgStatus status) {
  switch (status) {
    case kRunning:
      return "iteration limit";
    case kConverged:
      return "tolerance reached";
    case kNegativeCurvature:
      return "stopped at a direction of negative curvature: the operator is not positive definite";
    case kNoCurvature:
      return "stopped at a direction of no curvature: the operator is singular, and the right-hand side has a part "
             "outside its range";
    case kNotFinite:
      return "stopped before a value that is not finite";
    case kIndefinitePreconditioner:
      return "stopped: the preconditioner is not positive definite";
    case kOutOfReach:
      return "stopped: what is left of the right-hand side lies where the operator sees nothing";
    case kDiverged:
      return "diverged, and the start is kept: the operator is not positive definite in this precision; solve in "
             "float64, or with damping";
    case kTimeLimit:
      return "time limit";
    case kRounding:
      return "the recurrence reached the tolerance, the true residual did not: rounding is in the way; solve in "
             "float64, or with damping";
  }
  return "";
}

}  // namespace amalgam
