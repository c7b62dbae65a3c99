#pragma once

#include "solvers/methods/adapter_method.h"

namespace amalgam {

/// θ0 + (Σ α_m B_m / Σ α_m)(Σ α_m A_m / Σ α_m): the means of the factors, each for itself. The product of means is not
/// the mean of products, which `average` gives: this is what other methods are compared with, and what adapters of one
/// start share. The factors of the tasks that have a say must have one rank.
/// @source the baseline of Zhao et al. 2025 (LoRA-LEGO) and of federated fine-tuning (Zhang et al. 2024, FedIT)
class LoraAverage final : public AdapterMethod {
 protected:
  LowRank merge_factors(const MergeInput& input, const std::string& weight, const std::vector<LowRank>& changes,
                        const std::vector<double>& weights) override;
};

}  // namespace amalgam
