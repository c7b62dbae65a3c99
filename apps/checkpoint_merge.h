#pragma once

#include <yaml-cpp/yaml.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/model_folder.h"
#include "apps/staged_folder.h"
#include "core/progress.h"
#include "solvers/methods/method.h"

namespace amalgam {

/// What `amalgam checkpoints` was asked for.
struct CheckpointRequest {
  struct Expert {
    std::string name;
    std::filesystem::path path;
    double weight = 1.0;
  };

  std::filesystem::path base;  ///< empty where there is none
  std::vector<Expert> experts;
  YAML::Node method;                          ///< as a row of `merge` in a recipe: a name, or a map with its options
  std::vector<std::string> private_patterns;  ///< of tensors that are not merged
  std::filesystem::path output;
  int64_t shard_bytes = 5'000'000'000;
  int64_t seed = 0;
  at::Device device = at::kCPU;
};

/// Merges checkpoints as Hugging Face lays them out into one more, without TorchScript and without data.
///
/// The first model (the base, or else the first expert) says which tensors the result has, under which names. Floating
/// ones are merged, others are those of the first expert that has a say, as buffers in a recipe. Private ones are the
/// first model's. Tensors that are one in all models (core/tied_tensors.h) are merged once, under one of their names.
/// Every other tensor must be in all models, of one shape and dtype. Peak memory is one tensor of each expert
/// (solvers/streamed_merge.h).
class CheckpointMerge {
 public:
  /// Checks everything that can be known before work: method and options, that it needs no data, folders, tensors,
  /// what lies at the output, disk space. What a killed merge left of the output goes away first.
  /// @throws InputError
  explicit CheckpointMerge(CheckpointRequest request);

  /// Whether the output is there already, made from the same inputs.
  bool is_done() const { return done_; }

  /// Merges, and writes the folder: aside, synced, renamed. Beside the tensors lie the files that lie beside the first
  /// model's, and `amalgam.json`, which says how it was made. Called once, where it is not done.
  /// @throws InputError, Interrupted; then nothing is left behind
  void run(Progress& progress);

 private:
  void check_names() const;
  void check_tensors();
  void check_output();
  void check_space() const;

  const ModelFolder& first() const { return base_ ? *base_ : *experts_.front(); }
  MergeInput input() const;
  nlohmann::json inputs_json() const;

  CheckpointRequest request_;
  std::unique_ptr<MergeMethod> method_;
  std::unique_ptr<ModelFolder> base_;
  std::vector<std::unique_ptr<ModelFolder>> experts_;
  std::map<std::string, std::string> tied_;    // name -> the name that it stands for
  std::vector<std::string> merged_, buffers_;  // by their own names
  bool done_ = false;
  std::unique_ptr<StagedFolder> folder_;  // of the output, until `run` takes it; null where it is done
};

}  // namespace amalgam
