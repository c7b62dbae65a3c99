#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/batch.h"
#include "core/random.h"

namespace amalgam {

/// Whose labels the gradients of a statistic are taken with.
enum class LabelMode {
  kTrue,     ///< the data's: the empirical Fisher
  kSampled,  ///< drawn from the model's own distribution, one a target
  kExact,    ///< all of them, weighed by the model's own probabilities: the Fisher itself
};

/// "true", "sampled", "exact".
const char* name_of(LabelMode mode);
/// @throws InputError naming the nearest mode
LabelMode label_mode_from_name(const std::string& name);

/// Targets drawn from softmax(output) by inverting its distribution function in float64, int64 like `target`. A draw
/// depends on the stream, the example's number and the position alone, so it is the same in any batch. Targets that are
/// ignored (negative) stay so.
/// @param output  [N, C] or [N, T, C]
/// @param target  int64 [N] or [N, T]
/// @param ids     int64 [N], on the CPU
/// @throws InputError if shapes do not fit, or there are no ids
at::Tensor sampled_targets(const at::Tensor& output, const at::Tensor& target, const at::Tensor& ids,
                           const RandomStream& stream);

/// How many backward passes the labels of a batch take: one, or for `exact` one a class.
/// @throws InputError for `exact` if the output is not [N, C] or has more than `kMostExactClasses` classes
int64_t label_passes(LabelMode mode, const at::Tensor& output);
constexpr int64_t kMostExactClasses = 1000;

/// The scalar whose gradients backward pass `pass` observes: the loss summed over the examples. For `exact` it is
/// Σ_n sqrt(p_c(n)) (−log p_c(n)) with c = `pass`, the root held constant. Note [Exact labels] in labels.cpp.
/// @param stream  of the draws (`sampled`)
/// @throws InputError for what the loss refuses (models/loss.h)
at::Tensor label_loss(LabelMode mode, int64_t pass, const std::string& loss, const at::Tensor& output,
                      const Batch& batch, const RandomStream& stream);

}  // namespace amalgam
