#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/progress.h"
#include "core/tensor_source.h"
#include "models/runner.h"
#include "solvers/methods/continual.h"

namespace amalgam {

/// What `amalgam merge --onto` was asked for: one more expert into a merged model, of which nothing but the file and
/// its record are left.
struct ContinualRequest {
  std::filesystem::path base, merged, expert, output;  ///< TorchScript files
  double weight = 1.0;                                 ///< of the expert
  double share = 0.5;                                  ///< as `opcm` has it
  std::vector<std::string> private_patterns = {};      ///< of parameters and buffers that stay the merged model's
  at::Device device = at::kCPU;
};

/// Where the record of a merged model lies: "ab.pt" has "ab.onto.json".
std::filesystem::path continual_record(const std::filesystem::path& model);

/// One step of continual merging (solvers/methods/continual.h), from TorchScript to TorchScript.
///
/// A merged model with a record goes on from the state in it; without one it is taken for the first expert: its weight
/// is 1. Parameters are merged, floating buffers are averaged over all experts so far, other buffers stay the merged
/// model's. The record holds the state, and the digests of the base, the merged model and every expert that went in.
class ContinualMerge {
 public:
  /// Checks that the output is not there yet, that the three models have the same tensors, and that the record is of
  /// this model and this base, and that the expert did not go in before.
  /// @throws InputError
  explicit ContinualMerge(ContinualRequest request);

  /// Writes model and record: aside, synced, renamed.
  /// @throws InputError for values that are not finite, also in the dtype that they are stored in
  /// @throws Interrupted from `progress`; then nothing is written
  ContinualState run(Progress& progress);

 private:
  void check_same_tensors() const;
  void read_record();
  double distance_of_merged(const Checkpoint& checkpoint) const;
  NamedTensors merged_buffers() const;

  ContinualRequest request_;
  MemoryTensors base_;
  std::unique_ptr<ModelRunner> model_;  // the merged one
  MemoryTensors merged_, expert_;
  std::string base_digest_, merged_digest_, expert_digest_;
  std::vector<std::string> parameters_, buffers_;  // that are merged
  ContinualState state_;                           // of no experts where there is no record
  std::vector<std::string> experts_;               // digests of those that went in
};

}  // namespace amalgam
