#include "solvers/methods/twin.h"

#include <algorithm>

#include "core/error.h"
#include "core/low_rank.h"
#include "core/task_parts.h"

namespace amalgam {
namespace {

const RegisterMethod<Twin> registered("twin", "another method, and for each task a low-rank part of what it lacks",
                                      "Lu et al. 2024 (Twin-Merging)");

}  // namespace

void Twin::declare_options(OptionSet& set) {
  set.integer("rank", rank_, {1, 1e6},
              "of each task's part of a matrix, r; whole where its factors would not be smaller");
  set.choice("vectors", vectors_, {"expert", "shared"},
             "what is no matrix: expert: each task keeps its own; shared: all have the merged one");
  declare_inner(set, "the method that merges what is shared");
}

void Twin::search(const MergeInput& input, const SearchWork& work) {
  selected_ = selected(input);
  inner().search(selected_, work);
}

void Twin::plan(const MergeInput& input) {
  selected_ = selected(input);
  inner().plan(selected_);
}

GroupResult Twin::merge_group(const MergeInput& /*input*/, const MergeGroup& group, const Checkpoint& checkpoint) {
  return inner().merge_group(selected_, group, checkpoint);
}

NamedTensors Twin::task_parts(const MergeInput& input, const std::string& parameter, const at::Tensor& merged) {
  NamedTensors parts;
  const bool is_matrix = merged.dim() >= 2 && merged.numel() > 0;
  if (!is_matrix && vectors_ == "shared") return parts;
  const int64_t rows = is_matrix ? merged.size(0) : 0, columns = is_matrix ? merged.numel() / rows : 0;
  const int64_t rank = std::min({rank_, rows, columns});
  const bool whole = rank * (rows + columns) >= rows * columns;
  const at::Tensor shared = merged.to(input.device).to(at::kDouble);
  for (const ExpertInput& expert : input.experts) {
    const std::string name = part_name(expert.task, parameter);
    const at::Tensor own = expert.tensors->get(parameter);
    require_input(own.isfinite().all().item<bool>(),
                  "'{}' of expert '{}' holds a value that is not finite; mend or retrain that expert", parameter,
                  expert.task);
    if (whole) {
      parts[name] = own;
      continue;
    }
    const LowRank factors =
        truncate((own.to(input.device).to(at::kDouble) - shared).reshape({rows, columns}), rank).factors;
    parts[down_name(name)] = factors.down.to(merged.scalar_type());
    parts[up_name(name)] = factors.up.to(merged.scalar_type());
  }
  return parts;
}

}  // namespace amalgam
