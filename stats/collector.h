#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
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
  std::string products = "model";
  int64_t temporary_mebibytes = 64;
  int64_t block_size = 0;
  std::vector<std::string> diagonal;
  int64_t vector_limit = StatisticsHeader::kDefaultVectorLimit;
  std::string place = "device";
  std::filesystem::path folder = {};  ///< of mapped sums (`place: file`); set by the caller, no option

  void declare(OptionSet& set);
};

/// The header of what a collector with these options will collect: kinds, layers, shapes, blocks, dtype.
/// @param parameters  dtypes and shapes of the model's parameters (`TensorSource::infos`); those of `layers` are needed
/// @throws InputError if a parameter of `layers` is missing among them, or if two layers have one name and kind
StatisticsHeader header_of_collection(LayerTable layers, const std::map<std::string, TensorInfo>& parameters,
                                      std::set<StatisticKind> kinds, const CollectorOptions& options);

/// Adds up statistics from what taps observe.
///
/// Sums are in float64 unless `options.dtype` says else, and are never divided. They live on the device of the
/// observations, or where `options.place` says: then each batch's part is made on the device and brought there. What
/// they come to does not depend on how examples are cut into batches, but for rounding. Layers that are not in the
/// table are passed over. Observations of a layer may come in any order within a batch; for a tied weight the uses of
/// one layer are held until those of the other come.
class StatisticsCollector final : public LayerObserver {
 public:
  /// @throws InputError as `header_of_collection`, or if a parameter has a shape that does not fit its layer
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
  int64_t examples() const { return examples_; }

  /// Saves the sums so far, atomically.
  /// @param identity  of the work: only a collector of the same work may go on
  void save_progress(const std::filesystem::path& path, const std::string& identity) const;
  /// Goes on where `save_progress` left: what comes of it is what would have come without a stop, bit by bit.
  /// @param device  of the observations to come
  /// @return false, and nothing is changed, if there is no such file, it is damaged, or it is of another identity
  bool resume(const std::filesystem::path& path, const std::string& identity, at::Device device);

  /// Adds the sums of several collectors of one kind, each in its own process, into the root's; the others begin anew.
  /// @param sum_to_root  adds up a tensor on the CPU over all processes, in place on the root; called alike in all
  void reduce(const std::function<void(at::Tensor&)>& sum_to_root, bool is_root, at::Device device);

  /// The sums so far; the collector can go on, but only after what is returned is no longer needed.
  /// @param header  task, loss, label_mode, ranges (where there are none: from 0), seed, digests, and the parameters
  ///                that taps know to be unobserved; the rest is filled in here: dtype, kinds, layers, shapes, blocks,
  ///                and in `unobserved` the parameters whose layer did not run, that no gradient reached, or that
  ///                several layers share (`entangled_parameters`)
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
  void add_weight_gradients(const Layer& layer, const std::vector<LayerUse>& uses, at::Device device);
  void add_held(const std::string& weight);
  void add_vector_gradients(const Layer& layer, const std::vector<LayerUse>& uses, at::Device device);
  void add_slices();
  bool collects(const std::string& name) const { return table_.contains(name); }
  int64_t block_of(const std::string& name) const;
  // The sum of that name, made of zeros when it is first asked for.
  at::Tensor& sum(const std::string& name, at::Device device);
  // Calls add(sum) with the sum itself, or with zeros on the device that are added to it then.
  template <class Add>
  void add_to(const std::string& name, at::Device device, Add add);
  // Why a layer's parameter has no (whole) statistic; empty where it has.
  std::string reason_unobserved(const LayerState& state) const;
  void erase_unobserved(const LayerState& state, NamedTensors& sums) const;

  struct Held {
    const Layer* layer = nullptr;
    std::vector<LayerUse> uses;
  };

  StatisticsHeader header_;  // what finish() fills in
  CollectorOptions options_;
  int64_t limit_bytes_;
  int64_t examples_ = 0;
  std::map<std::string, SumInfo> table_;
  std::map<LayerKey, LayerState> states_;
  std::map<std::string, TiedWeight> tied_;
  std::map<std::string, Held> held_;  // by tied weight: the layer that came first in this pass
  // Of vectors that are put together of several layers' slices, by the name of the sum: the gradients of each example
  // in this pass, [N, n]. A pass ends where a layer comes again.
  std::map<std::string, at::Tensor> slices_;
  std::set<const LayerState*> seen_;  // in this pass
  NamedTensors sums_;
};

}  // namespace amalgam
