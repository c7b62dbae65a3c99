#pragma once

#include "solvers/methods/adapter_method.h"

namespace amalgam {

/// LoRA-LEGO. A product B A of rank r is a sum of r units b_i a_iᵀ in any order, each the point (a_i, b_i). The units
/// of all adapters of a weight are clustered by k-means into K; each cluster becomes one unit, its centroid scaled to
/// the mean norm of its members; the output is scaled by √(r/K), r the adapters' rank (their weighted mean where they
/// differ). K is the largest of the ranks unless said otherwise. Task weights α weigh the units in centroids and norms.
///
/// The scale of an adapter is part of its b: clusters depend on how it is split among the two factors.
/// @source Zhao et al. 2025, Merging LoRAs like Playing LEGO (ICLR), section 4
class LoraLego final : public AdapterMethod {
 protected:
  void declare_options(OptionSet& set) override;
  LowRank merge_factors(const MergeInput& input, const std::string& weight, const std::vector<LowRank>& changes,
                        const std::vector<double>& weights) override;

 private:
  int64_t clusters_ = 0;  ///< K; 0: the largest rank
};

}  // namespace amalgam
