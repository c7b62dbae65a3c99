#include "models/collect.h"

#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "core/error.h"
#include "models/tap_session.h"

namespace amalgam {
namespace {

/// The calls of each layer of the table, by their index.
std::vector<std::vector<size_t>> calls_by_layer(TapSession& session, const LayerTable& table) {
  const auto key = [](const Layer& layer) { return std::make_pair(layer.name, layer.kind); };
  std::map<std::pair<std::string, LayerKind>, size_t> positions;
  for (size_t i = 0; i < table.layers.size(); ++i) positions.emplace(key(table.layers[i]), i);
  std::vector<std::vector<size_t>> indices(table.layers.size());
  for (size_t i = 0; i < session.calls().size(); ++i)
    if (const auto found = positions.find(key(session.calls()[i].layer)); found != positions.end())
      indices[found->second].push_back(i);
  return indices;
}

void require_as_scanned(const TapSession& session, const LayerTable& table) {
  for (const Layer& layer : table.layers)
    for (const std::string& parameter : {layer.weight, layer.bias})
      if (const auto found = session.not_understood().find(parameter); found != session.not_understood().end())
        throw InputError(
            fmt::format("parameter '{}' is now used by {}, which it was not in the first batch; the model "
                        "must treat all batches alike",
                        parameter, fmt::join(found->second, ", ")));
}

/// Where in the model values cease to be finite.
std::string first_layer_fed_non_finite(TapSession& session) {
  for (const LayerCall& call : session.calls())
    if (call.input.defined() && call.input.is_floating_point() && !at::isfinite(call.input).all().item<bool>())
      return fmt::format("the first layer that is fed values that are not finite is '{}'", call.layer.name);
  return "no layer is fed values that are not finite, so they arise after the last one";
}

/// Runs one batch after the other and shows what it sees.
class Collecting {
 public:
  Collecting(ModelRunner& runner, const ScanResult& scan, const CollectOptions& options, LayerObserver& observer)
      : runner_(runner),
        scan_(scan),
        options_(options),
        observer_(observer),
        needs_(observer.needs()),
        stream_(options.seed, "labels/" + options.task),
        session_(runner.parameters(), needs_,
                 {.build_graph = needs_.gradients || scan.needs_graph, .only = &scan.layers}) {}

  /// @param number         of the batch, for messages
  /// @param first_example  how many came before it
  void add(const Batch& batch, int64_t number, int64_t first_example, Progress& progress);
  /// To be asked at the end: what to say of a mask that no layer had the rows for; empty where all is well.
  std::string unused_mask() const;

 private:
  /// False if the device has no room for it; then nothing of it has been shown.
  bool fits(const Batch& batch);
  void run(const Batch& batch);
  at::Tensor forward(const Batch& batch);
  void show_layers(const Batch& batch, std::vector<at::Tensor> gradients, bool first, bool last);
  void note_mask(const Batch& batch, const LayerCall& call, const LayerUse& use);

  ModelRunner& runner_;
  const ScanResult& scan_;
  const CollectOptions& options_;
  LayerObserver& observer_;
  const ObserverNeeds needs_;
  const RandomStream stream_;
  TapSession session_;
  std::vector<std::vector<size_t>> calls_;                       // of each layer, in the last forward pass
  int64_t most_examples_ = std::numeric_limits<int64_t>::max();  // that the device is known to have room for
  bool is_shown_ = false;                                        // a part of the batch
  bool mask_is_used_ = false;
  std::string mask_and_rows_;  // where they first were not of one length
};

void Collecting::add(const Batch& batch, int64_t number, int64_t first_example, Progress& progress) {
  int64_t begin = 0;
  const auto place = [&] {
    return fmt::format("{}batch {} (from example {} on)", options_.task.empty() ? "" : "task '" + options_.task + "', ",
                       number, first_example);
  };
  try {
    while (begin < batch.count) {
      const int64_t examples = std::min(most_examples_, batch.count - begin);
      if (fits(batch.narrow(begin, examples))) {
        begin += examples;
        continue;
      }
      require_input(examples > 1,
                    "the device has no room for a single example with its gradients; use a device with more memory, or "
                    "device: cpu");
      most_examples_ = (examples + 1) / 2;
      progress.message(fmt::format("{}: the device has no room for {} examples at once; going on with {}", place(),
                                   examples, most_examples_));
    }
  } catch (const ExampleError& error) {
    const int64_t example = begin + error.position();
    throw InputError(fmt::format("{}, example {} of the split: {}{}", place(),
                                 batch.ids.defined() ? batch.ids[example].item<int64_t>() : first_example + example,
                                 error.what(), begin == 0 ? "" : fmt::format(" (of a part from {} on)", begin)));
  } catch (const InputError& error) {
    throw InputError(fmt::format("{}: {}", place(), error.what()));
  }
}

bool Collecting::fits(const Batch& batch) {
  is_shown_ = false;
  try {
    run(batch.to(runner_.device()));
    return true;
  } catch (const c10::OutOfMemoryError&) {
    require_input(!is_shown_,
                  "the device ran out of memory after a part of the batch of {} examples was counted, which cannot be "
                  "taken back; collect again with a smaller `statistics.batch`",
                  batch.count);
    return false;
  }
}

void Collecting::run(const Batch& batch) {
  at::Tensor output = forward(batch);
  calls_ = calls_by_layer(session_, scan_.layers);
  if (!needs_.gradients) {
    output.reset();  // and with it the graph: no gradients will be asked for
    show_layers(batch, {}, true, true);
  }
  const int64_t passes = needs_.gradients ? label_passes(options_.labels, options_.loss, output) : 0;
  for (int64_t pass = 0; pass < passes; ++pass) {
    const bool last = pass + 1 == passes;
    const at::Tensor loss =
        label_loss(options_.labels, pass, options_.loss, output, batch, stream_, options_.temperature);
    show_layers(batch, session_.gradients(loss, !last), pass == 0, last);
  }
  observer_.end_batch(batch.count);
}

at::Tensor Collecting::forward(const Batch& batch) {
  const at::Tensor output = session_.run([&] { return runner_.forward(batch); });
  require_as_scanned(session_, scan_.layers);
  try {
    require_finite_output(output);
  } catch (const ExampleError& error) {
    throw ExampleError(error.position(), fmt::format("{}; {}", error.what(), first_layer_fed_non_finite(session_)));
  }
  return output;
}

/// Shows the layers of one pass in the table's order. In the last pass it lets go of what it has shown.
/// @param gradients  of each call; empty in a pass without
void Collecting::show_layers(const Batch& batch, std::vector<at::Tensor> gradients, bool first, bool last) {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < calls_.size(); ++i) {
    const Layer& layer = scan_.layers.layers[i];
    if (calls_[i].empty() || (layer.kind == LayerKind::kBias && !needs_.gradients)) continue;
    std::vector<LayerUse> uses;
    for (const size_t index : calls_[i]) {
      LayerCall& call = session_.calls()[index];
      const at::Tensor gradient = needs_.gradients ? std::move(gradients[index]) : at::Tensor();
      uses.push_back(canonical_use(call, gradient, scan_.layouts[i], batch, needs_));
      note_mask(batch, call, uses.back());
      if (last) call = {};
    }
    is_shown_ = true;
    observer_.observe({layer, uses, /*repeated=*/!first});
  }
}

/// A layer of one row, behind a mean over positions say, has no use for a mask.
void Collecting::note_mask(const Batch& batch, const LayerCall& call, const LayerUse& use) {
  if (!batch.mask.defined() || call.layer.kind == LayerKind::kBias) return;
  const int64_t rows = rows_of_example(call, batch.count);
  mask_is_used_ |= use.mask.defined();
  if (rows > 1 && mask_and_rows_.empty())
    mask_and_rows_ = fmt::format("the data's mask has {} positions an example, and layer '{}' has {} rows",
                                 batch.mask.size(1), call.layer.name, rows);
}

std::string Collecting::unused_mask() const {
  if (mask_is_used_ || mask_and_rows_.empty()) return {};
  return fmt::format("{}{}; no layer has as many rows as the mask, so every row counts",
                     options_.task.empty() ? "" : "task '" + options_.task + "': ", mask_and_rows_);
}

}  // namespace

CollectResult collect_observations(ModelRunner& runner, const ScanResult& scan, BatchSource& source,
                                   const CollectOptions& options, LayerObserver& observer, Progress& progress) {
  runner.set_training(false);
  Collecting collecting(runner, scan, options, observer);
  CollectResult result;
  progress.begin("collect", source.examples());
  for (Batch batch; source.next(batch); ++result.batches) {
    collecting.add(batch, result.batches, result.examples, progress);
    result.examples += batch.count;
    progress.update(result.examples);
  }
  progress.end();
  if (const std::string unused = collecting.unused_mask(); !unused.empty()) progress.message(unused);
  return result;
}

}  // namespace amalgam
