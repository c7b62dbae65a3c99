#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/options.h"

namespace amalgam {

/// What a model's output is held against its targets by. N examples; f the output, y the target:
///
///   cross_entropy         −log softmax(f)_y, f [N, C] with y int64 [N], or f [N, T, C] with y int64 [N, T]; a negative
///                         target does not count. With `label_smoothing` ε as torch.nn.functional.cross_entropy has it:
///                         (1−ε) (−log p_y) + ε/C Σ_c (−log p_c)
///   binary_cross_entropy  −y log σ(f) − (1−y) log(1−σ(f)), f (logits) and y [N] or [N, K], 0 ≤ y ≤ 1
///   mean_squared_error    ½ ‖f − y‖², f and y (floating) [N] or [N, …]: the negative log-likelihood of a Gaussian of
///                         unit variance around f, but for a constant, so that its Fisher is the Gauss-Newton matrix Σ
///                         JᵀJ. (The name is the usual one; neither the half nor the sum is the usual mean.)
///
/// The loss of an example is the sum over its targets that count (tokens, or components of y); `targets: mean` divides
/// it by their number.
struct LossSpec {
  enum class Kind { kCrossEntropy, kBinaryCrossEntropy, kMeanSquaredError };

  std::string name = "cross_entropy";
  double label_smoothing = 0;
  std::string targets = "sum";

  LossSpec() = default;
  /// A name stands for the loss with its defaults, as a bare word does in a recipe.
  LossSpec(const char* word) : name(word) {}

  void declare(OptionSet& set);
  /// @throws InputError naming the nearest loss
  Kind kind() const;
  bool operator==(const LossSpec&) const = default;
};

/// The losses that a recipe may name.
const std::vector<std::string>& loss_names();

/// @param where  path of the loss for messages: "tasks.left.loss"
/// @throws InputError for an unknown name, or an option that the loss does not have
void check_loss(const LossSpec& loss, const std::string& where);

/// Something is wrong with one example of a batch. Who knows the batch says which example of the split it is.
class ExampleError : public InputError {
 public:
  ExampleError(int64_t position, const std::string& text) : InputError(text), position_(position) {}
  int64_t position() const { return position_; }  ///< in the batch

 private:
  int64_t position_;
};

/// @param output  [N, …]
/// @throws ExampleError naming the first example with a value that is not finite, and the value
void require_finite_output(const at::Tensor& output);

/// The loss of each example, [N], half precision computed in float32.
/// @throws ExampleError for a target that is out of range (a class outside 0 … C-1, a label outside 0 … 1, a value that
/// is not finite) or an output that is not finite, naming the example and the value
/// @throws InputError for shapes or dtypes that do not fit, or what `check_loss` refuses
at::Tensor example_losses(const LossSpec& loss, const at::Tensor& output, const at::Tensor& target);

/// The loss of each target, in the target's shape, half precision computed in float32; 0 where it does not count. The
/// unchecked part of `example_losses`: outputs and targets are such as that has taken, and nothing is read back to the
/// host.
at::Tensor target_losses(const LossSpec& loss, const at::Tensor& output, const at::Tensor& target);

/// How many targets of each example count, int64 [N].
at::Tensor target_counts(const LossSpec& loss, const at::Tensor& target);

/// What the summed loss of some examples is divided by to be a mean, int64 []: the targets that count, or with
/// `targets: mean`, where an example's loss is a mean already, the examples that have one.
at::Tensor loss_terms(const LossSpec& loss, const at::Tensor& target);

}  // namespace amalgam
