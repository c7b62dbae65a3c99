#include "apps/predictions.h"

#include "core/digest.h"
#include "core/error.h"
#include "core/safetensors.h"

namespace amalgam {

void write_predictions(const std::filesystem::path& path, const Predictions& predictions, const PredictionsOf& of) {
  const NamedTensors tensors = {
      {"prediction", predictions.prediction}, {"target", predictions.target}, {"loss", predictions.loss}};
  write_safetensors(path, tensors,
                    {{"row", of.row},
                     {"task", of.task},
                     {"split", of.split},
                     {"metric", of.metric},
                     {"loss", of.loss},
                     {"digest", digest_of(MemoryTensors(tensors))}});
}

RightTargets right_targets(const Predictions& predictions, const std::string& loss) {
  const bool labels = loss == "binary_cross_entropy";
  require_input(labels || loss == "cross_entropy", "predictions of {} are neither right nor wrong", loss);
  const at::Tensor& target = predictions.target;
  require_input(predictions.prediction.sizes() == target.sizes() && target.dim() > 0 && target.size(0) > 0,
                "predictions and targets do not fit");
  const at::Tensor wanted = labels ? target.gt(0.5).to(at::kLong) : target;
  const at::Tensor counted = wanted.ge(0), hits = predictions.prediction.eq(wanted).logical_and(counted);
  const auto by_example = [&](const at::Tensor& of) { return of.to(at::kDouble).reshape({target.size(0), -1}).sum(1); };
  return {by_example(hits), by_example(counted)};
}

RightTargets read_right_targets(const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  const auto loss = file.metadata().find("loss");
  require_input(loss != file.metadata().end() && file.contains("prediction") && file.contains("target"),
                "{}: these are no predictions of amalgam", path.string());
  try {
    return right_targets({file.get("prediction"), file.get("target"), {}}, loss->second);
  } catch (const InputError& error) {
    throw InputError(fmt::format("{}: {}", path.string(), error.what()));
  }
}

}  // namespace amalgam
