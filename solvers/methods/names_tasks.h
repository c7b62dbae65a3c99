#pragma once

#include <vector>

#include "solvers/methods/method.h"

namespace amalgam {

/// What a MergeMethod also is whose options name tasks, or have one value each.
class NamesTasks {
 public:
  virtual ~NamesTasks() = default;

  /// Whether every task that an option names is there, every name that must be given is, and there are as many values
  /// as tasks, which make sense together: known of the recipe alone, long before `plan`.
  /// @param experts  their tasks and weights count
  /// @throws InputError naming the option, and the nearest task to one that is not there
  virtual void check_tasks(const std::vector<ExpertInput>& experts) const = 0;
};

/// Of a method that names none nothing is checked.
inline void check_task_names(const MergeMethod& method, const std::vector<ExpertInput>& experts) {
  if (const auto* naming = dynamic_cast<const NamesTasks*>(&method)) naming->check_tasks(experts);
}

}  // namespace amalgam
