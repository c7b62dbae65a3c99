#pragma once

#include <string>
#include <vector>

#include "solvers/methods/method.h"
#include "solvers/methods/names_tasks.h"

namespace amalgam {

/// Consensus merging: task arithmetic on those elements only that several tasks need.
///
///   mask_m  |d_m| > λ_m |d_MT − d_m|  (tall_mask.h), of the weighted changes d_m = α_m (θ_m − θ0), d_MT = Σ d_m
///   merged  θ0 + λ d_MT where at least k masks are set, else θ0
///
/// `agreeing: 0` is task arithmetic. Where fewer than k tasks have a weight other than zero, all of their masks must be
/// set: one task with `scale: 1` is its expert.
/// @source Wang et al. 2024, Localizing Task Information for Improved Model Merging and Compression: k 2, each λ_m
///         chosen on validation data from 0.2 to 0.6, λ too; 0.4 and 0.3 (task arithmetic's) are the defaults here
class Consensus final : public ParameterMethod, public NamesTasks {
 public:
  MethodRequirements requirements() const override;
  void check_tasks(const std::vector<ExpertInput>& experts) const override;
  void plan(const MergeInput& input) override;
  at::Tensor merge_parameter(const MergeInput& input, const std::string& name) override;

 protected:
  void declare_options(OptionSet& set) override;
  void configure(const std::string& where) override;

 private:
  at::Tensor merge_piece(const MergeInput& input, const std::string& name) const;

  int64_t agreeing_ = 2;                 ///< k
  std::vector<double> mask_scale_{0.4};  ///< λ_m, one for all tasks or one each
  double scale_ = 0.3;                   ///< λ
  std::string where_;
  std::vector<double> heard_scales_;  // λ_m of the tasks that have a say
};

}  // namespace amalgam
