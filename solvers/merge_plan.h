#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "solvers/grouping.h"

namespace amalgam {

/// A group, the variants that merge it, and the process that does.
struct GroupWork {
  const MergeGroup* group = nullptr;
  std::vector<size_t> variants;
  int process = 0;
};

/// A parameter that some variants leave aside, and how many of them wholly.
struct Averaged {
  std::vector<size_t> variants;
  int64_t whole = 0;
};

/// What some variants merge in one pass over the model. What a search varies seldom changes which groups there are, so
/// variants are joined group by group: where one of them forms others, it merges those alone.
class MergePlan {
 public:
  /// Groups are taken as `form_groups` gives them, once every method has planned.
  /// @param methods, input  must outlive this
  MergePlan(std::span<MergeMethod* const> methods, const MergeInput& input);
  MergePlan(const MergePlan&) = delete;
  MergePlan& operator=(const MergePlan&) = delete;

  /// Gives each group to one of `processes`, the parameters left aside to the first.
  void share(int processes);

  const std::vector<GroupWork>& work() const { return work_; }
  const std::map<std::string, Averaged>& averaged() const { return averaged_; }
  /// Of a variant.
  const std::vector<Fallback>& fallbacks(size_t variant) const { return groupings_[variant].fallbacks; }

 private:
  void join_groups();

  std::span<MergeMethod* const> methods_;
  const MergeInput& input_;
  std::vector<Grouping> groupings_;  // one a variant
  std::vector<GroupWork> work_;
  std::map<std::string, Averaged> averaged_;
};

/// Has the tensors and statistics of a group read from the disk while another is merged, where they are mapped files.
/// They come as far as the kernel's cache: what is converted or moved to a device waits until it is needed.
void prefetch(const GroupWork& work, std::span<MergeMethod* const> methods, const MergeInput& input);

}  // namespace amalgam
