#pragma once

#include <functional>
#include <string>
#include <vector>

#include "solvers/methods/method.h"

namespace amalgam {

/// What continual merging keeps of the experts beside the merged model θ: as much as the next one needs.
struct ContinualState {
  double scale = 1.0;      ///< λ: θ − θ0 is the sum of what the experts added, divided by it
  double mean_norm = 0.0;  ///< of the experts' α_m ‖θ_m − θ0‖ over all parameters, and ‖θ − θ0‖
  int64_t experts = 0;     ///< merged so far

  bool operator==(const ContinualState&) const = default;
};

/// The state as JSON, for the metadata of a file.
std::string to_json(const ContinualState& state);
/// @throws InputError where the text is not such a state
ContinualState continual_state_from_json(const std::string& text);

/// The part N' of a new change N that does not overlap with what is kept: with D = U S Vᵀ the kept change and P = Uᵀ N
/// V, N' = U P' Vᵀ where P' is P without its diagonal and its leading r × r block; r is the number of leading singular
/// values whose sum is within `share` of the sum of all. By thin factors U₁, V₁,
///   N' = N − U₁ (mask ∘ U₁ᵀ N V₁) V₁ᵀ,
/// which is the same, since only elements within both spans are taken out. Directions in which D has nothing take
/// nothing out (the published code does, in whatever directions LAPACK returns). It does not depend on the size of D.
/// @param kept, change  float64 [rows, columns]
at::Tensor without_overlap(const at::Tensor& kept, const at::Tensor& change, double share);

/// D + N' of one parameter, N' = N unless it is a matrix (two axes): what continual merging adds up before it scales.
/// @param sum     λ (θ − θ0), float64
/// @param change  α (θ_m − θ0), float64
at::Tensor add_change(const at::Tensor& sum, const at::Tensor& change, double share);

/// λ for a sum of norm `sum_norm` to get the mean norm of the experts; 1 where no expert changed anything.
double continual_scale(double sum_norm, double mean_norm);

/// Merges one more expert onto a merged model: θ' = θ0 + (λ (θ − θ0) + N')/λ', with λ' such that ‖θ' − θ0‖ over all
/// parameters is the mean norm of the experts' changes. In two passes over the model, the first for λ', so that memory
/// is that of one parameter. `merge_onto` of a second expert, a third … gives what `opcm` gives for all at once, up to
/// the rounding of the merged models between.
/// @param names  of the parameters, floating, of one shape in all three
/// @param take   called with each merged parameter, float64 on `device`
/// @return the state of the new merged model
/// @throws InputError if no expert was merged before, or if the expert holds a value that is not finite
ContinualState merge_onto(const TensorSource& base, const TensorSource& merged, const ContinualState& state,
                          const ExpertInput& expert, const std::vector<std::string>& names, double share,
                          at::Device device, const Checkpoint& checkpoint,
                          const std::function<void(const std::string& name, const at::Tensor& value)>& take);

}  // namespace amalgam
