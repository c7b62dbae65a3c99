#include "models/collect.h"

#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>

#include <utility>
#include <vector>

#include "core/error.h"
#include "models/tap_session.h"

namespace amalgam {
namespace {

/// Says which batch it was.
[[noreturn]] void rethrow_with_place(const InputError& error, const CollectOptions& options, int64_t batch,
                                     int64_t first_example) {
  throw InputError(fmt::format("{}batch {} (from example {} on): {}",
                               options.task.empty() ? "" : "task '" + options.task + "', ", batch, first_example,
                               error.what()));
}

void require_finite(const at::Tensor& output) {
  const at::Tensor finite = at::isfinite(output).flatten(1).all(1);  // [N]
  if (finite.all().item<bool>()) return;
  throw InputError(fmt::format("the model's output for example {} of the batch is not finite",
                               finite.logical_not().nonzero()[0].item<int64_t>()));
}

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

/// Shows the layers of one pass in the table's order. In the last pass it lets go of what it has shown.
/// @param calls      of each layer
/// @param gradients  of each call; empty in a pass without
void show_layers(TapSession& session, const ScanResult& scan, const std::vector<std::vector<size_t>>& calls,
                 std::vector<at::Tensor> gradients, const Batch& batch, bool first, bool last,
                 LayerObserver& observer) {
  const at::NoGradGuard no_grad;
  const ObserverNeeds needs = observer.needs();
  for (size_t i = 0; i < calls.size(); ++i) {
    const Layer& layer = scan.layers.layers[i];
    if (calls[i].empty() || (layer.kind == LayerKind::kBias && !needs.gradients)) continue;
    std::vector<LayerUse> uses;
    for (const size_t index : calls[i]) {
      LayerCall& call = session.calls()[index];
      const at::Tensor gradient = needs.gradients ? std::move(gradients[index]) : at::Tensor();
      uses.push_back(canonical_use(call, gradient, scan.layouts[i], batch, needs));
      if (last) call = {};
    }
    observer.observe({layer, uses, /*repeated=*/!first});
  }
}

}  // namespace

CollectResult collect_observations(ModelRunner& runner, const ScanResult& scan, BatchSource& source,
                                   const CollectOptions& options, LayerObserver& observer, Progress& progress) {
  const ObserverNeeds needs = observer.needs();
  const RandomStream stream(options.seed, "labels/" + options.task);
  runner.set_training(false);
  TapSession session(runner.parameters(), needs,
                     {.build_graph = needs.gradients || scan.needs_graph, .only = &scan.layers});
  CollectResult result;
  progress.begin("collect", source.examples());
  for (Batch batch; source.next(batch); ++result.batches) {
    const auto in_batch = [&](const auto& work) {
      try {
        return work();
      } catch (const InputError& error) {
        rethrow_with_place(error, options, result.batches, result.examples);
      }
    };
    batch = batch.to(runner.device());
    at::Tensor output = in_batch([&] {
      const at::Tensor made = session.run([&] { return runner.forward(batch); });
      require_as_scanned(session, scan.layers);
      if (!needs.gradients) require_finite(made);
      return made;
    });
    const auto calls = calls_by_layer(session, scan.layers);
    if (!needs.gradients) {
      output.reset();  // and with it the graph: no gradients will be asked for
      show_layers(session, scan, calls, {}, batch, true, true, observer);
    }
    const int64_t passes = needs.gradients ? label_passes(options.labels, output) : 0;
    for (int64_t pass = 0; pass < passes; ++pass) {
      const bool last = pass + 1 == passes;
      const at::Tensor loss =
          in_batch([&] { return label_loss(options.labels, pass, options.loss, output, batch, stream); });
      show_layers(session, scan, calls, session.gradients(loss, !last), batch, pass == 0, last, observer);
    }
    observer.end_batch(batch.count);
    result.examples += batch.count;
    progress.update(result.examples);
  }
  progress.end();
  return result;
}

}  // namespace amalgam
