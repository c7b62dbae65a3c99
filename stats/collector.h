#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/observation.h"
#include "core/options.h"
#include "stats/statistics.h"
#include "stats/sum_table.h"

namespace amalgam {

struct CollectorOptions {
  std::string dtype = "float64";
  int64_t temporary_mebibytes = 64;

  void declare(OptionSet& set);
};

/// Adds up statistics from what taps observe.
///
/// Sums live on the device of the observations, in float64 unless `options.dtype` says else, and are never divided.
/// What they come to does not depend on how examples are cut into batches, but for rounding. Layers that are not in the
/// table are passed over. Observations of a layer may come in any order within a batch.
class StatisticsCollector final : public LayerObserver {
 public:
  /// @param layers      what to collect
  /// @param parameters  dtypes and shapes of the model's parameters (`TensorSource::infos`); those of `layers` are
  /// needed
  /// @throws InputError if a parameter of `layers` is missing among them, or has a shape that does not fit its layer,
  /// or if two
  ///         layers have one name and kind
  StatisticsCollector(LayerTable layers, const std::map<std::string, TensorInfo>& parameters,
                      std::set<StatisticKind> kinds, const CollectorOptions& options = {});
  StatisticsCollector(const StatisticsCollector&) = delete;
  StatisticsCollector& operator=(const StatisticsCollector&) = delete;

  ObserverNeeds needs() const override;
  /// @throws c10::Error if an observation has shapes that core/observation.h does not allow for its layer
  void observe(const LayerObservation& observation) override;
  /// @throws c10::Error if layers that are said to be fed the same tensor did not see the same number of rows
  void end_batch(int64_t examples) override;

  /// Examples so far.
  int64_t examples() const { return header_.examples; }

  /// The sums so far, on the CPU; the collector can go on.
  /// @param header  task, label_mode, first_example, seed, digests, and the parameters that taps know to be unobserved;
  /// the
  ///                rest is filled in here: examples, dtype, kinds, layers, shapes, and in `unobserved` the parameters
  ///                whose layer did not run, that no gradient reached, or that several layers share
  ///                (`entangled_parameters`)
  /// @throws InputError if a sum is not finite (named)
  Statistics finish(StatisticsHeader header) const;

 private:
  using LayerKey = std::pair<std::string, LayerKind>;  // a tied embedding and head have one name
  struct LayerState {
    const Layer* layer;  // in header_.layers
    std::string gram_owner;
    int64_t positions = 0;  // rows so far, masked ones too
    bool observed = false;
    bool has_gradient = false;
  };

  void add_inputs_and_outputs(LayerState& state, const std::vector<LayerUse>& uses);
  void add_gradients(LayerState& state, const std::vector<LayerUse>& uses);
  // The sum of that name, made of zeros when it is first asked for; null where it is not collected.
  at::Tensor* sum(const std::string& name, at::Device device);
  // Why a layer's parameter has no (whole) statistic; empty where it has.
  std::string reason_unobserved(const LayerState& state) const;

  StatisticsHeader header_;  // what finish() fills in
  int64_t limit_bytes_;
  std::map<std::string, SumInfo> table_;
  std::map<LayerKey, LayerState> states_;
  NamedTensors sums_;
};

}  // namespace amalgam
