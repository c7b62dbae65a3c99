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

RightTargets read_right_targets(const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  const auto loss = file.metadata().find("loss");
  require_input(loss != file.metadata().end() && file.contains("prediction") && file.contains("target"),
                "{}: these are no predictions of amalgam", path.string());
  const bool labels = loss->second == "binary_cross_entropy";
  require_input(labels || loss->second == "cross_entropy", "{}: predictions of {} are neither right nor wrong",
                path.string(), loss->second);
  const at::Tensor prediction = file.get("prediction"), target = file.get("target");
  require_input(prediction.sizes() == target.sizes() && prediction.dim() > 0 && prediction.size(0) > 0,
                "{}: predictions and targets do not fit", path.string());
  const at::Tensor wanted = labels ? target.gt(0.5).to(at::kLong) : target;
  const at::Tensor counted = wanted.ge(0), hits = prediction.eq(wanted).logical_and(counted);
  const auto by_example = [&](const at::Tensor& of) { return of.to(at::kDouble).reshape({target.size(0), -1}).sum(1); };
  return {by_example(hits), by_example(counted)};
}

}  // namespace amalgam
