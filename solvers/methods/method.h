#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/layer_table.h"
#include "core/model_probe.h"
#include "core/options.h"
#include "core/progress.h"
#include "core/tensor_source.h"
#include "solvers/group_memory.h"
#include "solvers/layer_matrix.h"
#include "solvers/search/search_report.h"
#include "stats/statistics.h"

namespace amalgam {

class PartlyMerged;

/// An expert as a method sees it. Pointers are borrowed.
struct ExpertInput {
  std::string task;
  double weight = 1.0;  ///< α of the task
  const TensorSource* tensors = nullptr;
  const Statistics* statistics = nullptr;  ///< null where none were collected
  /// The low-rank factors of its changes, the scale in B (core/low_rank.h); null where it is no adapter.
  const TensorSource* adapter = nullptr;
};

/// Everything that a merge reads.
struct MergeInput {
  const TensorSource* base = nullptr;           ///< null where there is none
  const Statistics* base_statistics = nullptr;  ///< of the base on data of its own; null where there are none
  std::vector<ExpertInput> experts;
  std::vector<std::string> parameters;  ///< the shared ones, in the model's order
  std::vector<std::string> buffers;     ///< the shared ones
  LayerTable layers;
  ModelProbe* probe = nullptr;  ///< runs the models for methods that ask; null where there is none
  at::Device device = at::kCPU;
  uint64_t seed = 0;
  int64_t group_bytes = int64_t{1} << 30;  ///< layers are solved together up to about this much memory
};

/// What is merged in one go: parameters, each by itself, or layers whose matrices have one shape; for a method that
/// merges block by block all layers of a block, whatever their shapes.
struct MergeGroup {
  std::vector<std::string> parameters;
  std::vector<LayerMatrix> layers;
  std::string block = {};                ///< its name; empty where the method does not go block by block
  const PartlyMerged* so_far = nullptr;  ///< what the groups before left (solvers/partly_merged.h); set by the driver
  /// Shared by the variants of one pass, gone with the group; null where only one method merges the group.
  std::shared_ptr<GroupMemory> memory = nullptr;

  /// What `make` gives, kept until a variant with another key merges this group. `key` names everything that it depends
  /// on but the merge's input and the group: the method, and those of its options that matter (`memory_key`).
  template <class T>
  std::shared_ptr<const T> remember(const std::string& key, const std::function<T()>& make) const {
    return memory ? memory->remember(key, make) : std::make_shared<const T>(make());
  }
};

/// What a solved layer looks like. Norms are Frobenius norms of the layer's matrix, in the dtype it was solved in.
struct LayerDiagnostics {
  /// Estimate of the condition number, from the coefficients of the conjugate gradients: of what they iterated on,
  /// which is the preconditioned operator where there is a preconditioner. Absent after fewer than two iterations.
  std::optional<double> condition;
  std::vector<double>
      effective_rank;  ///< of each expert's A: tr(A)² / ‖A‖², from 1 to its width; 0 where A is zero, NaN where unknown
  double from_average = 0.0;        ///< ‖W − W̄‖ / ‖W̄‖, W̄ the mean of the experts
  std::vector<double> from_expert;  ///< ‖W − W_m‖ / ‖W̄‖, one an expert
  /// Share of ‖W‖² in directions of which Σ C_m sees less than 1e-6 of what it sees of the first; NaN where that is not
  /// known.
  double unseen = 0.0;
};

/// How the merge of one layer went.
struct LayerReport {
  std::string layer;   ///< or a parameter that is merged by itself
  std::string solver;  ///< "cholesky", "conjugate gradients", "dense Fisher", "closed form"; empty: nothing was solved
  int64_t iterations = 0;  ///< of a grouped convolution: the most of any group, as all below
  double residual = 0.0;   ///< the true ‖b − Kx‖ / ‖b‖
  bool converged = true;
  std::string why;                 ///< why the solver stopped
  std::vector<double> history;     ///< relative residual at the start and after each iteration
  std::vector<std::string> notes;  ///< what went differently: an expert without a say, a raised ridge
  std::optional<LayerDiagnostics> diagnostics;
};

struct GroupResult {
  NamedTensors merged;               ///< a group of parameters: by name, any floating dtype
  std::vector<at::Tensor> matrices;  ///< a group of layers: one each, [groups, rows, columns]
  std::vector<LayerReport> reports;
};

/// What a method cannot do without.
struct MethodRequirements {
  bool base = false;
  std::set<StatisticKind> statistics = {};
  bool layers = false;  ///< merges whole layers, weight with bias; else parameters one by one
  /// With `layers`: also merges, each by itself, the parameters that no layer of the method merges and of which every
  /// expert has the gradient Gram matrix.
  bool vectors = false;
  bool negative_weights = false;  ///< makes sense with α < 0
  int64_t least_experts = 1;      ///< with α > 0; with `negative_weights`, of any α
  int64_t most_experts = 0;       ///< with α > 0; 0: any number
  bool probe = false;             ///< runs the models while it merges, block by block
  bool adapters = false;          ///< merges the factors of adapters (`ExpertInput::adapter`)
  bool base_statistics = false;   ///< uses statistics of the base where there are any; can do without
  bool val_scores = false;        ///< searches before it merges, by scores on `val`
  std::string entropy_split =
      {};  ///< searches before it merges, by predictions on this split's inputs; empty: does not

  /// Whether `MergeMethod::search` does anything.
  bool searches() const { return val_scores || !entropy_split.empty(); }
  /// Whether it can do nothing without a ModelProbe.
  bool runs_models() const { return probe || searches(); }
};

/// Called now and then in long work; throws Interrupted where the program is to stop.
using Checkpoint = std::function<void()>;

/// What a search is given to work with.
struct SearchWork {
  Progress& progress;
  std::filesystem::path folder = {};  ///< where it keeps its state (solvers/search/stepwise_search.h); empty: nowhere
  std::string identity = {};  ///< of what the merge depends on beside the method: of another one no state is used
};

/// A rule that turns base, experts and statistics into merged parameters.
///
/// The driver (solvers/merge.h) checks the requirements, calls `search` and `plan` once, streams groups through
/// `merge_group`, and averages what the method does not handle: so a method sees only parameters that it was asked to
/// merge, and for which every expert has the statistics it requires.
class MergeMethod {
 public:
  virtual ~MergeMethod() = default;

  const std::string& name() const { return name_; }
  virtual MethodRequirements requirements() const { return {}; }

  /// Declares the options of every method (`apply_to`, `except`) and then its own.
  void declare(OptionSet& set);
  /// Every option as it stands.
  YAML::Node write_options();
  /// Whether the user's `apply_to` and `except` leave this parameter to the method; else it is averaged.
  bool selects(const std::string& parameter) const;
  bool selects_everything() const;

  /// Why the method cannot merge a layer of which it has every statistic that it requires; empty if it can.
  virtual std::string why_not(const ExpertInput&, const LayerMatrix&) const { return ""; }
  /// Layers of one shape are merged together if they have one key.
  virtual std::string batch_key(const MergeInput&, const LayerMatrix&) const { return {}; }
  /// The block that a layer belongs to, for a method that merges layers block by block, in the order in which the
  /// blocks begin; empty for one that takes layers in any order. Either for all layers or for none.
  virtual std::string block_of(const Layer&) const { return {}; }

  /// Names what variants of the method can share in a group (`MergeGroup::remember`): those of one key are merged one
  /// after the other. Empty: nothing.
  virtual std::string memory_key() const { return {}; }

  /// What is found by running the models: done before everything else, in the root process alone.
  virtual void search(const MergeInput&, const SearchWork&) {}
  /// How the search went; nothing where there was none.
  virtual std::optional<SearchReport> search_report() const { return std::nullopt; }

  /// What is global: a threshold over the whole model.
  virtual void plan(const MergeInput&) {}
  /// How much each expert counts in a buffer that `selects` leaves to the method (a batch norm's mean), asked after
  /// `plan`: by default α. What is not above 0 does not count.
  virtual std::vector<double> buffer_weights(const MergeInput& input, const std::string& name) const;
  virtual GroupResult merge_group(const MergeInput& input, const MergeGroup& group, const Checkpoint& checkpoint) = 0;

 protected:
  virtual void declare_options(OptionSet&) {}
  /// After the options were read: what needs more than one of them, or is no plain value.
  /// @param where path of the method's section, for messages
  virtual void configure(const std::string& /*where*/) {}

 private:
  friend std::unique_ptr<MergeMethod> make_method(const std::string&, const YAML::Node&, const std::string&);

  std::string name_;
  std::vector<std::string> apply_to_{"*"}, except_;
};

/// A method that merges each parameter by itself.
class ParameterMethod : public MergeMethod {
 public:
  /// @return the merged parameter, of the parameter's shape, in any floating dtype
  virtual at::Tensor merge_parameter(const MergeInput& input, const std::string& name) = 0;

  GroupResult merge_group(const MergeInput& input, const MergeGroup& group, const Checkpoint& checkpoint) final;

 protected:
  /// What the report should say of a parameter: that it was averaged after all, say. Empty: nothing.
  virtual std::string remark(const MergeInput& /*input*/, const std::string& /*name*/) { return ""; }
};

/// A parameter, ready to compute with: on `device`, float64 where it is stored so, else float32.
at::Tensor read_parameter(const TensorSource& source, const std::string& name, at::Device device);

/// What is known of a method without making one.
struct MethodEntry {
  std::string name, summary;
  std::string source;  ///< the paper
  std::function<std::unique_ptr<MergeMethod>()> make;
};

/// Adds a method to the registry. To be called at start only, by a static `RegisterMethod`.
void register_method(MethodEntry entry);

/// A method registers itself in its own source file:
/// `const RegisterMethod<Average> registered("average", "the weighted mean of the experts", "McMahan et al. 2017");`
template <class Method>
struct RegisterMethod {
  RegisterMethod(const std::string& name, const std::string& summary, const std::string& source) {
    register_method({name, summary, source, [] { return std::make_unique<Method>(); }});
  }
};

/// In the order of their names.
std::vector<std::string> method_names();
/// @throws InputError naming the nearest method
const MethodEntry& find_method(const std::string& name, const std::string& where);

/// @param options  a map of the method's options; null or undefined for the defaults
/// @param where    path of the section in the recipe, for messages
/// @throws InputError for an unknown method or option, or a value out of range
std::unique_ptr<MergeMethod> make_method(const std::string& name, const YAML::Node& options, const std::string& where);
/// From a recipe's entry: `average`, or `{method: regmean, ridge: 1e-4}`.
std::unique_ptr<MergeMethod> make_method(const YAML::Node& entry, const std::string& where);

/// The options of a method with types, defaults and help, for `amalgam methods`.
std::vector<OptionSet::Description> describe_options(const std::string& method);

}  // namespace amalgam
