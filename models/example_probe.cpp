#include "models/example_probe.h"

#include <cmath>
#include <limits>

#include "core/error.h"

namespace amalgam {
namespace {

double epsilon_of(at::ScalarType dtype) {
  switch (dtype) {
    case at::kDouble:
      return std::numeric_limits<double>::epsilon();
    case at::kHalf:
      return 0x1p-10;
    case at::kBFloat16:
      return 0x1p-7;
    default:
      return std::numeric_limits<float>::epsilon();
  }
}

/// How far rounding may set two runs of one example apart. A product sums its terms in an order that depends on the
/// size of the batch: an error of about sqrt(inputs) epsilon a layer, relative to the layer's output. The loss has its
/// own rounding, and the outputs' errors times its slopes: at most 2 a target for classes and labels, |f − y| for
/// values, together at most sqrt(2 K loss). 1024 epsilon are a hundred layers of a hundred inputs that all err to one
/// side: in float32 1e-4 of the size, where examples that are mixed differ by parts of it. (In half precision only what
/// is mixed grossly is seen.)
double tolerance(const LossSpec& loss, const at::Tensor& output, double value, double targets) {
  const double largest = output.detach().abs().max().to(at::kDouble).item<double>();
  const bool values = loss.kind() == LossSpec::Kind::kMeanSquaredError;
  const double slopes = values ? std::sqrt(2 * targets * value) : 2 * targets;
  return 1024 * epsilon_of(output.scalar_type()) * (value + slopes * largest);
}

at::Tensor run_alone(const std::function<at::Tensor(const Batch&)>& run, const Batch& one) {
  try {
    return run(one);
  } catch (const InputError& error) {
    throw InputError(
        fmt::format("the model does not run on a single example, and statistics are of single ones: {}", error.what()));
  }
}

}  // namespace

void require_separate_examples(const std::function<at::Tensor(const Batch&)>& run, const Batch& batch,
                               const LossSpec& loss) {
  const at::Tensor together = example_losses(loss, run(batch), batch.target).detach().to(at::kDouble).cpu();  // [N]
  for (int64_t n = 0; n < batch.count; ++n) {
    const Batch one = batch.narrow(n, 1);
    const at::Tensor output = run_alone(run, one);
    const double alone = example_losses(loss, output, one.target).item<double>();
    const double in_batch = together[n].item<double>();
    const auto targets = target_counts(loss, one.target).sum().to(at::kDouble).item<double>();
    require_input(
        std::abs(in_batch - alone) <= tolerance(loss, output, alone, targets),
        "the model mixes the examples of a batch, or draws at random: the loss of example {} is {} in a batch "
        "of {} and {} alone; statistics are of single examples, so export the model in evaluation mode, with "
        "running statistics in place of the batch's own and without dropout",
        batch.ids.defined() ? batch.ids[n].item<int64_t>() : n, in_batch, batch.count, alone);
  }
}

}  // namespace amalgam
