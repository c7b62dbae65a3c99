#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/batch.h"
#include "core/random.h"
#include "models/loss.h"

namespace amalgam {

/// Whose labels the gradients of a statistic are taken with.
///
/// The model's own distribution is what its loss is the negative log-likelihood of: softmax(f) over classes, a
/// Bernoulli σ(f) a label, a Gaussian of unit variance around f. `label_smoothing` is no part of it: it says how the
/// data's labels are mixed, and here are none. (The Gauss-Newton matrix of the smoothed loss is that of the plain one
/// too: the second derivative by f, diag(p) − p pᵀ, does not depend on the target.) `targets: mean` divides each
/// example's gradients, so that its Fisher is divided by the square.
///
/// All of it can be asked of the tempered model, whose output is f / τ (`label_loss`): above 1, probabilities are
/// softer, so that an example which the model has fitted still has a gradient.
enum class LabelMode {
  kTrue,     ///< the data's: the empirical Fisher
  kSampled,  ///< drawn from the model's own distribution, one a target
  kExact,    ///< all of them, weighed by the model's own probabilities: the Fisher itself
};

/// "true", "sampled", "exact".
const char* name_of(LabelMode mode);
/// @throws InputError naming the nearest mode
LabelMode label_mode_from_name(const std::string& name);

/// Targets drawn from the model's distribution, in float64 until they are classes. A draw depends on the stream, the
/// example's number and the position of the target in the example alone, so it is the same in any batch.
///   cross_entropy         int64 like `target`, by inverting the distribution function; ignored (negative) targets stay
///   binary_cross_entropy  0 or 1, float64
///   mean_squared_error    f + a standard normal draw, float64
/// @param output  [N, C] or [N, T, C] for classes, else the target's shape
/// @param target  the data's: its shape, and which are ignored
/// @param ids     int64 [N], on the CPU
/// @throws InputError if shapes do not fit, or there are no ids
at::Tensor sampled_targets(const LossSpec& loss, const at::Tensor& output, const at::Tensor& target,
                           const at::Tensor& ids, const RandomStream& stream);

/// How many backward passes the labels of a batch take: one, or for `exact` one a class and position, or a component of
/// the output.
/// @throws InputError for `exact` if they are more than `kMostExactPasses`
int64_t label_passes(LabelMode mode, const LossSpec& loss, const at::Tensor& output);
constexpr int64_t kMostExactPasses = 1000;

/// The scalar whose gradients backward pass `pass` observes: the loss summed over the examples. For `exact`, with the
/// roots held constant,
///   cross_entropy         Σ_n sqrt(p) (−log p), p of class c at position t of example n, `pass` = t C + c
///   binary_cross_entropy  Σ_n sqrt(p (1−p)) f, p = σ(f), f the component `pass`
///   mean_squared_error    Σ_n f, f the component `pass`
/// so that the gradients' outer products add up to the Fisher over all passes. Note [Exact labels] in labels.cpp.
/// @param stream       of the draws (`sampled`)
/// @param temperature  τ > 0: the loss is that of output / τ, whatever the mode
/// @throws InputError for what the loss refuses (models/loss.h)
at::Tensor label_loss(LabelMode mode, int64_t pass, const LossSpec& loss, const at::Tensor& output, const Batch& batch,
                      const RandomStream& stream, double temperature = 1.0);

/// @throws InputError for a temperature other than 1 of a loss that is not of probabilities (mean_squared_error)
void check_temperature(double temperature, const LossSpec& loss, const std::string& where);

}  // namespace amalgam
