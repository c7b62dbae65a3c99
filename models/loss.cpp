#include "models/loss.h"

#include <fmt/ranges.h>

#include <algorithm>

namespace amalgam {
namespace {

using Kind = LossSpec::Kind;

/// The first place where `wrong` holds, as the example and the flat position in it; the slow path, taken once.
struct Place {
  int64_t example = 0, position = 0;
};

Place first_place(const at::Tensor& wrong) {
  const int64_t flat = wrong.flatten().nonzero()[0].item<int64_t>(), width = wrong.numel() / wrong.size(0);
  return {flat / width, flat % width};
}

template <class T>
T value_at(const at::Tensor& tensor, const Place& place) {
  return tensor[place.example].flatten()[place.position].item<T>();
}

[[noreturn]] void refuse_target(Kind kind, const at::Tensor& target, const Place& place, int64_t classes) {
  std::string why;
  switch (kind) {
    case Kind::kCrossEntropy:
      why = fmt::format(
          "target {} of example {} of the batch is outside the model's {} classes (0 to {}); check the labels, or the "
          "number of classes of the model",
          value_at<int64_t>(target, place), place.example, classes, classes - 1);
      break;
    case Kind::kBinaryCrossEntropy:
      why = fmt::format(
          "target {} of example {} of the batch is outside 0 to 1; binary_cross_entropy takes labels 0, "
          "1, or shares between them",
          value_at<double>(target, place), place.example);
      break;
    case Kind::kMeanSquaredError:
      why = fmt::format("target {} of example {} of the batch is not finite; check the data",
                        value_at<double>(target, place), place.example);
  }
  throw ExampleError(place.example, why);
}

/// Where a target is none that the loss knows, the target's shape.
at::Tensor out_of_range(Kind kind, const at::Tensor& target, int64_t classes) {
  switch (kind) {
    case Kind::kCrossEntropy:
      return target.ge(classes);
    case Kind::kBinaryCrossEntropy:
      return target.ge(0).logical_and(target.le(1)).logical_not();  // so NaN is outside
    default:
      return at::isfinite(target).logical_not();
  }
}

/// Shapes and dtypes, which cost no look at the device.
void require_fitting(const LossSpec& loss, Kind kind, const at::Tensor& output, const at::Tensor& target) {
  const auto require = [&](bool fits, const char* expected) {
    require_input(fits, "an output [{}] and a target [{}] do not fit: {} takes {}", fmt::join(output.sizes(), ", "),
                  fmt::join(target.sizes(), ", "), loss.name, expected);
  };
  require_input(output.is_floating_point(), "{} takes floating outputs, not {}", loss.name,
                c10::toString(output.scalar_type()));
  if (kind == Kind::kCrossEntropy) {
    require((output.dim() == 2 || output.dim() == 3) && target.dim() == output.dim() - 1 &&
                output.sizes().slice(0, static_cast<size_t>(target.dim())) == target.sizes(),
            "[N, C] with [N], or [N, T, C] with [N, T]");
    require_input(target.scalar_type() == at::kLong, "cross_entropy takes int64 targets, not {}",
                  c10::toString(target.scalar_type()));
  } else if (kind == Kind::kBinaryCrossEntropy) {
    require(output.sizes() == target.sizes() && (output.dim() == 1 || output.dim() == 2),
            "logits [N] with targets [N], or [N, K] with [N, K]");
  } else {
    require(output.sizes() == target.sizes() && output.dim() >= 1, "values [N, …] with targets of the same shape");
    require_input(target.is_floating_point(), "mean_squared_error takes floating targets, not {}",
                  c10::toString(target.scalar_type()));
  }
}

/// Half precision as float32.
at::Tensor in_full_precision(const at::Tensor& output) {
  const bool half = output.scalar_type() == at::kHalf || output.scalar_type() == at::kBFloat16;
  return half ? output.to(at::kFloat) : output;
}

/// −log p(target) of each target, the target's shape; 0 where it does not count.
at::Tensor cross_entropy(const LossSpec& loss, const at::Tensor& output, const at::Tensor& target) {
  constexpr int64_t kIgnored = -100;
  const at::Tensor classes = target.masked_fill(target.lt(0), kIgnored).reshape(-1);
  return at::cross_entropy_loss(output.reshape({-1, output.size(-1)}), classes, {}, at::Reduction::None, kIgnored,
                                loss.label_smoothing)
      .view(target.sizes());
}

/// Over all axes but the first. [N, …] -> [N]
at::Tensor sum_by_example(const at::Tensor& values) { return values.dim() == 1 ? values : values.flatten(1).sum(1); }

}  // namespace

const std::vector<std::string>& loss_names() {
  static const std::vector<std::string> names = {"cross_entropy", "binary_cross_entropy", "mean_squared_error"};
  return names;
}

void LossSpec::declare(OptionSet& set) {
  set.choice("name", name, loss_names(), "what the output is held against the targets by");
  set.real("label_smoothing", label_smoothing, {0, 1},
           "of cross_entropy with the data's labels: the share of a target that is spread over all classes");
  set.choice("targets", targets, {"sum", "mean"}, "an example's loss is the sum, or the mean, over its targets");
}

Kind LossSpec::kind() const {
  const auto found = std::find(loss_names().begin(), loss_names().end(), name);
  require_input(found != loss_names().end(), "unknown loss '{}'{}", name, suggestion(name, loss_names()));
  return static_cast<Kind>(found - loss_names().begin());
}

void check_loss(const LossSpec& loss, const std::string& where) {
  const Kind kind = loss.kind();
  require_input(loss.label_smoothing == 0 || kind == Kind::kCrossEntropy,
                "{}.label_smoothing: {} has no classes to spread a target over; leave it out", where, loss.name);
}

void require_finite_output(const at::Tensor& output) {
  const at::Tensor wrong = at::isfinite(output.detach()).logical_not();  // [N, …]
  if (!wrong.any().item<bool>()) return;
  const Place place = first_place(wrong);
  throw ExampleError(place.example, fmt::format("the model's output for example {} of the batch is not finite ({}); "
                                                "the model has diverged, or its input is not finite",
                                                place.example, value_at<double>(output.detach(), place)));
}

at::Tensor example_losses(const LossSpec& loss, const at::Tensor& output, const at::Tensor& target) {
  const Kind kind = loss.kind();
  check_loss(loss, "loss");
  require_fitting(loss, kind, output, target);
  const int64_t classes = output.size(-1);
  const at::Tensor outside = out_of_range(kind, target, classes);
  // The one host read of a call. It must come first: a target out of range is undefined behaviour in LibTorch's
  // kernels.
  if (outside.any().logical_or(at::isfinite(output.detach()).all().logical_not()).item<bool>()) {
    require_finite_output(output);
    refuse_target(kind, target, first_place(outside), classes);
  }
  const at::Tensor losses = sum_by_example(target_losses(loss, output, target));
  return loss.targets == "mean" ? losses / target_counts(loss, target).clamp_min(1) : losses;
}

at::Tensor target_losses(const LossSpec& loss, const at::Tensor& output, const at::Tensor& target) {
  const at::Tensor f = in_full_precision(output);
  switch (loss.kind()) {
    case Kind::kCrossEntropy:
      return cross_entropy(loss, f, target);
    case Kind::kBinaryCrossEntropy:
      return at::binary_cross_entropy_with_logits(f, target.to(f.scalar_type()), {}, {}, at::Reduction::None);
    default:
      // Float64 targets keep the difference in float64: a Gaussian draw around a large output is not rounded away.
      return (f - target).square() * 0.5;
  }
}

at::Tensor target_counts(const LossSpec& loss, const at::Tensor& target) {
  const bool some = loss.kind() == Kind::kCrossEntropy;
  return sum_by_example((some ? target.ge(0) : at::ones_like(target, at::kBool)).to(at::kLong));
}

at::Tensor loss_terms(const LossSpec& loss, const at::Tensor& target) {
  const at::Tensor counts = target_counts(loss, target);
  return (loss.targets == "mean" ? counts.gt(0).to(at::kLong) : counts).sum();
}

}  // namespace amalgam
