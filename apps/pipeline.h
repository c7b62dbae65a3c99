#pragma once

#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "apps/predictions.h"
#include "apps/recipe.h"
#include "apps/run_folder.h"
#include "apps/scores.h"
#include "apps/terminal.h"
#include "core/model_probe.h"
#include "core/process_group.h"
#include "core/safetensors.h"
#include "datasets/data_files.h"
#include "datasets/dataset.h"
#include "models/adapter.h"
#include "models/layer_scan.h"
#include "models/peft.h"
#include "models/runner.h"
#include "solvers/merge.h"
#include "stats/statistics.h"

namespace amalgam {

class ExpertProbe;
class HfFolder;

/// Work had begun when it went wrong: the command answers with exit code 1, where an InputError found before means 2.
class FailedWhileRunning : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// What the models of a row are made of; borrowed.
struct RowTensors {
  const TensorSource* shared = nullptr;  ///< null: the experts as they are
  const TensorSource* parts = nullptr;   ///< what each task keeps beside (core/task_parts.h); null: nothing
  /// The file whose router chooses the part for each example; empty: the task's own.
  std::filesystem::path routed = {};
};

/// A part of a recipe's work, chosen on the command line; empty means all.
struct PipelineSelection {
  std::string task, row, split;
  std::filesystem::path write_hf;  ///< where the merged model goes as `transformers` reads it (apps/hf_folder.h)
};

/// Does what a recipe says, step by step, in the run's folder. Each function first does what it needs of the ones
/// before it, and skips what an earlier run has finished (`Steps`).
class Pipeline {
 public:
  /// @param runs   the folder of all runs
  /// @param group  the processes that collect and merge together; the root does all else alone, before and after
  Pipeline(Recipe recipe, const std::filesystem::path& runs, PipelineSelection selection, const ProcessGroup& group,
           Terminal& terminal);
  ~Pipeline();

  /// Everything about the recipe that can be known before heavy work: data, given models, methods' needs, disk.
  /// @throws InputError
  void check();
  void make_models();
  void collect();
  /// Says what the statistics would take; trains and collects nothing.
  void plan_statistics();
  void merge();
  /// The merged model of one row as a folder that `transformers` loads; `selection.write_hf` says where.
  void write_hf();
  void evaluate();

  /// The scores as a table for the terminal.
  std::string table() const;
  const RunFolder& folder() const { return steps_.folder(); }
  bool is_root() const { return group_.is_root(); }

 private:
  using Tasks = std::vector<size_t>;  ///< their numbers, in the recipe's order

  /// A model as merging sees it: its mapped tensors and what they are.
  struct OpenedModel {
    std::filesystem::path path;                      ///< the TorchScript file
    std::string file;                                ///< SHA-256 of it, and so of its code
    std::shared_ptr<const SafetensorsFile> tensors;  ///< parameters and buffers
    std::string digest;                              ///< SHA-256 of these
    std::vector<std::string> parameters, buffers;    ///< names; parameters in the model's order
    std::shared_ptr<const TensorSource> adapter;     ///< low-rank factors of its changes; null where it is no adapter
    bool is_ia3 = false;                             ///< of what is shared only vectors of (IA)³ differ from the base
  };
  struct TaskState {
    std::map<Split, std::unique_ptr<Dataset>> data;
    OpenedModel expert;
    std::optional<Statistics> statistics;
    std::string statistics_digest;
  };

  // pipeline_check.cpp
  void check_selection() const;
  void check_weights_of_rows() const;
  void check_data();
  void check_given_models();
  void check_given_statistics();
  void check_base();
  void check_write_hf();
  void check_parts_of_rows() const;

  // pipeline_adapters.cpp
  void check_adapters();
  LowRankAdapter new_adapter(const std::string& subject, const TrainSpec& spec, ModelRunner& model,
                             const Dataset& train_data, const LossSpec& loss) const;
  void write_expert_adapter(const std::string& subject, const AdapterSpec& spec, const LowRankAdapter& adapter) const;
  PeftAdapter read_adapter(const std::filesystem::path& folder) const;
  void fold_adapter(size_t task);
  void open_adapter(size_t task);
  std::vector<std::string> ia3_vectors() const;
  bool trains_ia3(const TrainSpec& spec) const;
  void write_ia3_vectors(const std::filesystem::path& folder, const TensorSource& source) const;
  int64_t merged_adapter_rank() const;
  bool merges_ia3() const;
  bool merges_adapters() const { return merged_adapter_rank() > 0 || merges_ia3(); }
  nlohmann::json write_merged_adapter(const MergeRow& row, const NamedTensors& merged) const;
  nlohmann::json write_merged_factors(const MergeRow& row, const NamedTensors& merged) const;

  // pipeline_models.cpp
  std::unique_ptr<Dataset> open_base_data(Split split);
  void make_base();
  void make_expert(size_t task);
  std::unique_ptr<ModelRunner> new_base();
  std::unique_ptr<ModelRunner> new_expert(size_t task);
  std::unique_ptr<ModelRunner> untrained_expert(size_t task);
  bool has_own_head() const;
  std::optional<size_t> part_of_base(size_t task) const;
  nlohmann::json train(const std::string& subject, const TrainSpec& spec, const nlohmann::json& inputs,
                       const Dataset& train_data, const Dataset& val_data, const TaskSpec& task,
                       const std::filesystem::path& path, const std::function<std::unique_ptr<ModelRunner>()>& make);
  nlohmann::json changes_from_base(const std::string& name, const TensorSource& expert,
                                   const std::vector<std::string>& parameters) const;
  OpenedModel open_tensors(const std::string& name, const std::filesystem::path& path);
  bool is_private(const std::string& name) const;
  std::vector<std::string> shared(const std::vector<std::string>& names) const;

  // pipeline_statistics.cpp
  void collect_task(size_t task);
  nlohmann::json collect_inputs(size_t task, const Dataset& data, const std::set<StatisticKind>& kinds) const;
  StatisticsHeader statistics_header(size_t task, const Dataset& data, const ScanResult& scan) const;
  nlohmann::json probe_inputs(size_t task) const;
  ModelProbe& probe();
  void report_unobserved(const std::string& task, const std::vector<std::string>& unobserved);
  std::set<StatisticKind> kinds_for(const std::string& chosen) const;
  std::set<StatisticKind> kinds_of_task(size_t task, const Dataset& data) const;

  // pipeline_merge.cpp
  void merge_row(const MergeRow& row);
  std::shared_ptr<const TensorSource> merge_earlier(const MergeRow& row, const Tasks& tasks,
                                                    const MergeArrangement& arrangement);
  static MergeInput going_on_from(const std::shared_ptr<const TensorSource>& reached, MergeInput input);
  MergeOutcome merge_with(const MergeRow& row, const Tasks& tasks, const MergeArrangement& arrangement);
  void reset_batch_norms(const MergeRow& row, MergeOutcome& outcome, const Tasks& tasks);
  Tasks all_tasks() const;
  MergeInput merge_input(const Tasks& tasks) const;
  MergeInput merge_input(const MergeMethod& method, const MergeRow& row, const Tasks& tasks);
  uint64_t seed_of(const MergeRow& row) const;
  LayerTable shared_layers() const;
  void write_merged(const MergeRow& row, const MergeOutcome& outcome, const nlohmann::json& about) const;
  void write_model(const std::filesystem::path& path, const MergeOutcome& outcome) const;
  nlohmann::json method_inputs(const MergeRow& row, const Tasks& tasks) const;
  nlohmann::json merge_inputs_json(const MergeRow& row, const Tasks& tasks);

  // pipeline_router.cpp
  nlohmann::json fit_router(const MergeRow& row, const Tasks& tasks, MergeOutcome& outcome);

  // pipeline_search.cpp
  /// A row merged of some tasks' experts.
  struct MadeRow {
    MergeOutcome outcome = {};
    YAML::Node options = {};                         ///< what a search over options chose, or else the row's
    nlohmann::json tried = nlohmann::json::array();  ///< every setting of such a search
    int64_t val_looks = 0;                           ///< how often each task's whole `val` was scored for it
  };
  /// What a row looks at while it merges.
  struct SearchedSplits {
    bool scores_val = false;
    std::set<Split> entropy = {};
  };
  MadeRow make_row(const MergeRow& row, const Tasks& tasks, const MergeArrangement& arrangement);
  MergeOutcome choose_on_val(const MergeRow& row, const Tasks& tasks, const MergeArrangement& arrangement,
                             YAML::Node& chosen, nlohmann::json& tried);
  double mean_on_val(const MergeRow& row, const MergeOutcome& outcome, const Tasks& tasks,
                     const std::vector<ScoreLine>& experts);
  MergeArrangement search_arrangement(const MergeRow& row, const nlohmann::json& inputs) const;
  static SearchedSplits searched_splits(const MergeRow& row);
  nlohmann::json search_inputs(const MergeRow& row, const Tasks& tasks);

  // pipeline_evaluate.cpp
  std::unique_ptr<ModelRunner> open_task_model(size_t task, const RowTensors& tensors) const;
  void evaluate_row(const std::string& made, bool routed = false);
  ScoreLine score_task(const std::string& row, size_t task, const RowTensors& tensors, const std::string& split,
                       Progress& progress, Predictions* predictions = nullptr);
  std::vector<ScoreLine> score(const std::string& row, const RowTensors& tensors, const std::string& split,
                               const Tasks& tasks, bool keep_predictions = false);
  nlohmann::json evaluate_inputs(const std::string& row, const std::string& digest, const std::string& split);
  static void normalise(std::vector<ScoreLine>& lines, const std::vector<ScoreLine>& experts);
  std::string reported_split() const;

  // pipeline_donors.cpp
  void score_donors(const DonorRow& row);
  nlohmann::json score_donor(const DonorRow& row, size_t target, size_t donor, const RightTargets* expert);
  nlohmann::json donor_inputs(const DonorRow& row, size_t target, size_t donor);

  // pipeline_protocol.cpp
  std::vector<Tasks> protocol_subsets() const;
  std::string name_of_subset(const Tasks& subset) const;
  void run_protocol();
  nlohmann::json score_subset(const MergeRow& row, const Tasks& subset, const nlohmann::json& inputs,
                              const std::vector<ScoreLine>& experts);
  nlohmann::json subset_inputs(const MergeRow& row, const Tasks& subset);

  const Dataset& dataset(size_t task, Split split);
  std::vector<std::string> splits() const;
  bool needs_statistics() const;

  Recipe recipe_;
  PipelineSelection selection_;
  const ProcessGroup& group_;
  Terminal& terminal_;
  at::Device device_;
  Steps steps_;
  std::optional<FolderLock> lock_;       ///< the root's
  std::unique_ptr<HfFolder> hf_folder_;  ///< where one is asked for
  OpenedModel base_;
  std::optional<Statistics> base_statistics_;
  std::string base_statistics_digest_;
  std::vector<TaskState> tasks_;
  DataFiles files_;  ///< shared by the data sets of all tasks
  std::map<Split, std::unique_ptr<Dataset>> base_data_;
  std::unique_ptr<ExpertProbe> probe_;  ///< made for the first method that asks
  std::vector<ScoreLine> scores_;
};

}  // namespace amalgam
