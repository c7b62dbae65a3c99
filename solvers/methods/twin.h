#pragma once

#include <optional>
#include <string>

#include "solvers/methods/inner_method.h"
#include "solvers/methods/task_part_method.h"

namespace amalgam {

/// Twin merging: what tasks share, by any other method, and for each task a low-rank part of what it lacks.
///
///   merged  the result of `inner`
///   task m  merged + U_r S_r V_rᵀ, the first r singular triplets of θ_m − merged
///
/// of each matrix, a parameter of two axes or more seen as [rows, the rest]. The two factors U √S and √S Vᵀ are kept in
/// the parameter's dtype. Where they would not be smaller than the matrix itself, the task keeps its expert's values
/// whole: so an expert comes back bit for bit where r is the full rank. What is no matrix (biases, norms) is small, and
/// is kept whole too unless `vectors: shared`.
///
/// The task is named when the model is run, and takes its own part alone, with the weight 1. The published method has a
/// router on top, which weighs all tasks' parts by the example. A router here (solvers/task_router.h) is the row's and
/// not the method's, and chooses one part. Task weights α are `inner`'s; a task of weight 0 has its part.
/// @source Lu et al. 2024, Twin-Merging: Dynamic Integration of Modular Expertise in Model Merging: task arithmetic as
///         `inner`, and a router. The rank is a choice: 16 is the default here
class Twin final : public InnerMethod, public TaskPartMethod {
 public:
  std::string block_of(const Layer& layer) const override { return inner().block_of(layer); }
  std::string memory_key() const override { return inner().memory_key(); }
  void search(const MergeInput& input, const SearchWork& work) override;
  std::optional<SearchReport> search_report() const override { return inner().search_report(); }
  void plan(const MergeInput& input) override;
  GroupResult merge_group(const MergeInput& input, const MergeGroup& group, const Checkpoint& checkpoint) override;
  NamedTensors task_parts(const MergeInput& input, const std::string& parameter, const at::Tensor& merged) override;

 protected:
  void declare_options(OptionSet& set) override;

 private:
  int64_t rank_ = 16;               ///< r
  std::string vectors_ = "expert";  ///< or "shared"
  MergeInput selected_;
};

}  // namespace amalgam
