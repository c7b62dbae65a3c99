#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "apps/recipe.h"
#include "core/device.h"
#include "core/model_probe.h"
#include "core/progress.h"
#include "datasets/dataset.h"
#include "datasets/loader.h"
#include "datasets/split.h"
#include "models/layer_scan.h"
#include "models/runner.h"

namespace amalgam {

/// One expert that can be run. Pointers are borrowed.
struct ProbedExpert {
  std::string task;
  std::filesystem::path model;  ///< its TorchScript file
  std::string output;           ///< which tensor of what it returns
  LossSpec loss;                ///< tells the layers where they have the examples; nothing else is made of it
  const Dataset* data = nullptr;
  const std::map<std::string, TensorInfo>* parameters = nullptr;
  std::string metric = "accuracy";
  std::function<const Dataset&(Split)> split;  ///< opens one, for what asks for more than `data`
};

/// Whose examples the batch norms of a merged model are estimated anew from, as `reset_batch_norms` says.
struct ProbeReset {
  std::vector<std::string> tasks;  ///< whose experts are merged
  int64_t examples = 0;            ///< of each; 0: nothing is estimated anew
};

/// Runs a recipe's experts for methods that ask while they merge: over the examples that its statistics are of, or over
/// those of a split.
///
/// For what layers are fed an expert is opened afresh and closed again, so that one model at a time is in memory. For
/// scores and entropies, which a search asks for again and again, all stay open until `close_models`.
class ExpertProbe final : public ModelProbe {
 public:
  /// @param options   which examples, the batch, and how their sums are kept
  /// @param scoring   the batch of scores, and which examples of a split they are of
  /// @param seed      draws the examples, with the task's name, as for its statistics and its scores
  /// @param progress  for messages
  ExpertProbe(std::vector<ProbedExpert> experts, StatisticsSpec options, EvaluateSpec scoring, uint64_t seed,
              at::Device device, Progress& progress);

  InputGramSums input_grams(const std::string& task, const std::vector<std::string>& layers,
                            const NamedTensors& replaced, const std::function<void()>& checkpoint) override;
  ProbeScore score(const std::vector<std::string>& tasks, const NamedTensors& replaced,
                   const std::function<void()>& checkpoint) override;
  ProbeEntropy entropy(const std::string& task, const NamedTensors& replaced, const std::vector<std::string>& by,
                       const ProbeBatch& batch, const std::function<void()>& checkpoint) override;

  /// From now on scores and entropies are those of models with batch norms of their own: means and variances among what
  /// is replaced are estimated anew with everything else replaced, in a pass over these examples for each set of
  /// values. An entropy's gradient takes them for constants.
  void reset_batch_norms(ProbeReset reset);
  void close_models();

 private:
  const ProbedExpert& expert(const std::string& task) const;
  /// Made when it is first asked for: of the expert as it is, before anything is replaced.
  const ScanResult& scan(const ProbedExpert& expert, ModelRunner& model);
  ModelRunner& opened(const ProbedExpert& expert);
  double score_one(const ProbedExpert& expert, Progress& progress);
  double score_merged(const ProbedExpert& expert, const NamedTensors& merged, Progress& progress);
  NamedTensors with_own_batch_norms(const NamedTensors& replaced, Progress& progress);

  std::vector<ProbedExpert> experts_;
  StatisticsSpec options_;
  EvaluateSpec scoring_;
  uint64_t seed_;
  at::Device device_;
  Progress& progress_;
  std::map<std::string, ScanResult> scans_;                   // by task
  std::map<std::string, std::unique_ptr<ModelRunner>> open_;  // by task
  std::map<std::string, double> expert_scores_;               // on val, by task
  ProbeReset reset_;
  NamedTensors reset_of_, reset_to_;  // what was replaced last, and the same with batch norms of its own
};

}  // namespace amalgam
