#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "apps/recipe.h"
#include "core/device.h"
#include "core/model_probe.h"
#include "core/progress.h"
#include "datasets/dataset.h"
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
};

/// Runs a recipe's experts for methods that ask while they merge, over the examples that its statistics are of.
///
/// An expert is opened afresh for each question and closed after it, so that one model at a time is in memory.
class ExpertProbe final : public ModelProbe {
 public:
  /// @param options   which examples, the batch, and how their sums are kept
  /// @param seed      draws the examples, with the task's name, as for its statistics
  /// @param progress  for messages
  ExpertProbe(std::vector<ProbedExpert> experts, StatisticsSpec options, uint64_t seed, at::Device device,
              Progress& progress);

  InputGramSums input_grams(const std::string& task, const std::vector<std::string>& layers,
                            const NamedTensors& replaced, const std::function<void()>& checkpoint) override;

 private:
  const ProbedExpert& expert(const std::string& task) const;
  /// Made when it is first asked for: of the expert as it is, before anything is replaced.
  const ScanResult& scan(const ProbedExpert& expert, ModelRunner& model);

  std::vector<ProbedExpert> experts_;
  StatisticsSpec options_;
  uint64_t seed_;
  at::Device device_;
  Progress& progress_;
  std::map<std::string, ScanResult> scans_;  // by task
};

}  // namespace amalgam
