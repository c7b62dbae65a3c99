#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/terminal.h"
#include "core/device.h"

namespace amalgam {

/// Where the files of a run are (`docs/recipe.md`, "The run's folder").
class RunFolder {
 public:
  explicit RunFolder(std::filesystem::path root) : root_(std::move(root)) {}

  const std::filesystem::path& root() const { return root_; }
  std::filesystem::path base() const { return root_ / "base.pt"; }
  std::filesystem::path expert(const std::string& task) const { return root_ / "experts" / (task + ".pt"); }
  /// The adapter of an expert that was trained as one, in PEFT's layout.
  std::filesystem::path adapter(const std::string& task) const { return root_ / "experts" / (task + ".adapter"); }
  /// The parameters and buffers of a model as a mapped file: "base", or a task's name.
  std::filesystem::path tensors(const std::string& model) const { return root_ / "tensors" / (model + ".safetensors"); }
  std::filesystem::path statistics(const std::string& task) const {
    return root_ / "statistics" / (task + ".safetensors");
  }
  /// @param ending ".pt", ".safetensors", ".tasks.safetensors", ".merge.json", ".adapter"
  std::filesystem::path merged(const std::string& row, const std::string& ending) const;
  /// What a row's models say of each example of a split of a task.
  std::filesystem::path predictions(const std::string& row, const std::string& task, const std::string& split) const;
  std::filesystem::path scores() const { return root_ / "scores.jsonl"; }
  std::filesystem::path report() const { return root_ / "report.html"; }
  std::filesystem::path recipe() const { return root_ / "recipe.resolved.yaml"; }
  std::filesystem::path log() const { return root_ / "log.txt"; }
  std::filesystem::path step(const std::string& name) const { return root_ / "steps" / (name + ".json"); }

 private:
  std::filesystem::path root_;
};

/// Held while a run works in its folder, so that no second one does.
class FolderLock {
 public:
  /// In the folder; stays there.
  static constexpr const char* kFile = ".lock";

  /// Makes the folder where it is missing.
  /// @param way_out  what to do where this folder does not do: "choose another place with --runs"
  /// @throws InputError if the folder cannot be written to, or if another process holds it
  FolderLock(const std::filesystem::path& folder, const std::string& way_out);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int descriptor_ = -1;
};

/// A row's name as part of a file's name: letters, digits, '.', '_', '+', '-' stay, runs of others become one '-'.
std::string file_stem(const std::string& row);

/// Runs the steps of a run, each once: a step whose inputs are those of its record, and whose outputs are as it left
/// them, is skipped. A record is written after the outputs, so that an interrupted step is done again.
class Steps {
 public:
  Steps(RunFolder folder, at::Device device, Terminal& terminal)
      : folder_(std::move(folder)), device_(device), terminal_(terminal) {}

  /// @param kind    "train", "open", "collect", "merge", "evaluate"
  /// @param subject task or row
  /// @param inputs  everything the outputs depend on; two runs with equal inputs make equal outputs
  /// @param work    makes the outputs and returns what else is worth keeping
  /// @return the step's record, of now or then: "details" (what `work` returned), "outputs" (with "sha256" each),
  /// "seconds", …
  nlohmann::json run(const std::string& kind, const std::string& subject, const nlohmann::json& inputs,
                     const std::vector<std::filesystem::path>& outputs, const std::function<nlohmann::json()>& work);

  /// The last record of a step, whatever its inputs and outputs; null where there is none that can be read.
  nlohmann::json last(const std::string& kind, const std::string& subject) const;
  /// The record of a finished step with these inputs, or null.
  nlohmann::json finished(const std::string& kind, const std::string& subject, const nlohmann::json& inputs,
                          const std::vector<std::filesystem::path>& outputs) const;

  const RunFolder& folder() const { return folder_; }

 private:
  RunFolder folder_;
  at::Device device_;
  Terminal& terminal_;
};

}  // namespace amalgam
