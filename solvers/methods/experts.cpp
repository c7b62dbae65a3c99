#include "solvers/methods/experts.h"

#include <algorithm>
#include <iterator>

#include "core/error.h"

namespace amalgam {

std::vector<ExpertInput> heard_experts(const MergeInput& input) {
  std::vector<ExpertInput> heard;
  std::ranges::copy_if(input.experts, std::back_inserter(heard),
                       [](const ExpertInput& expert) { return expert.weight != 0.0; });
  return heard;
}

size_t expert_of_task(const std::vector<ExpertInput>& experts, const std::string& task, const std::string& where) {
  std::vector<std::string> tasks;
  for (const ExpertInput& expert : experts) tasks.push_back(expert.task);
  const auto found = std::ranges::find(tasks, task);
  require_input(found != tasks.end(), "{}: there is no task '{}'{}", where, task, suggestion(task, tasks));
  return static_cast<size_t>(found - tasks.begin());
}

}  // namespace amalgam
