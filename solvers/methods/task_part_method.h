#pragma once

#include <string>

#include "solvers/methods/method.h"

namespace amalgam {

/// What a MergeMethod also is whose tasks keep something of their own beside what is merged.
class TaskPartMethod {
 public:
  virtual ~TaskPartMethod() = default;

  /// What the tasks keep of one merged parameter, named as core/task_parts.h says. The driver asks of each floating
  /// parameter that the user leaves to the method, after all groups.
  /// @param merged  as it is stored
  virtual NamedTensors task_parts(const MergeInput& input, const std::string& parameter, const at::Tensor& merged) = 0;
};

/// Whether a method is one.
inline bool keeps_task_parts(const MergeMethod& method) {
  return dynamic_cast<const TaskPartMethod*>(&method) != nullptr;
}

}  // namespace amalgam
