#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/progress.h"
#include "solvers/methods/method.h"
#include "solvers/observed_tensors.h"

namespace amalgam {

/// Tells, while a method plans, how much of the experts it has read, and lets it be stopped there: a plan knows no
/// progress, but it reads. A pass ends where a tensor of an expert is read that was read in this pass before.
class PlanReads {
 public:
  /// Stands before the tensors of the experts of `input` from here on, and must outlive whoever uses them.
  PlanReads(MergeInput& input, Progress& progress);
  PlanReads(const PlanReads&) = delete;
  PlanReads& operator=(const PlanReads&) = delete;

  /// Counts what `plan` reads, in megabytes of all experts, for each pass anew.
  /// @throws Interrupted from the progress
  void during(const std::function<void()>& plan);

 private:
  void count(size_t expert, const std::string& name, double bytes);

  Progress& progress_;
  std::vector<std::unique_ptr<ObservedTensors>> sources_;
  std::set<std::pair<size_t, std::string>> read_;  // in this pass
  double total_ = 0, done_ = 0;                    // bytes
  int passes_ = 0;
  bool planning_ = false;
};

}  // namespace amalgam
