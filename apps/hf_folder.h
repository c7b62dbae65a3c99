#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/tensor_source.h"

namespace amalgam {

/// The way back to `transformers`: merged tensors under the names of the checkpoint that the base was exported from, in
/// a folder that `from_pretrained` loads. `models/export` wrote what it takes beside the base (docs/export.md):
/// `base.names.json`, which tensor of the TorchScript is which of the checkpoint, and `base.hf/`, configuration,
/// tokenizer and the tensors that the base lacks. Neither is trusted.
class HfFolder {
 public:
  /// Reads the names and sees that the files are there, so that nothing is missing when the merge is done.
  /// @param base    the TorchScript base
  /// @param output  must not be there yet, or be an empty folder
  /// @throws InputError
  HfFolder(std::filesystem::path base, std::filesystem::path output);

  /// Checks that the base has every tensor that the names speak of, and that what is private is not among them.
  /// @param base_infos  of the base's parameters and buffers, those that merging keeps apart left out
  /// @throws InputError
  void check(const std::map<std::string, TensorInfo>& base_infos) const;

  /// Writes the folder: aside, synced, renamed. Tensors have the dtype and shape of the checkpoint; what `merged` does
  /// not name is the base's.
  /// @throws InputError if a tensor has another shape than the checkpoint's
  void write(const TensorSource& merged, const TensorSource& base) const;

 private:
  /// A tensor of the checkpoint.
  struct Original {
    std::string name;
    TensorInfo info;
    bool transposed = false;  ///< whether the TorchScript has it the other way round
  };

  void read_names();
  void require_files() const;
  /// Under its own name, or under another of a tied tensor's; empty where `infos` has none of them.
  std::string known_as(const std::string& name, const std::map<std::string, TensorInfo>& infos) const;

  std::filesystem::path names_, files_, output_;
  std::map<std::string, Original> tensors_;     // by the TorchScript's name
  std::map<std::string, std::string> aliases_;  // a tied tensor's further names -> its first
  std::vector<std::string> copied_;             // files of `files_`
  std::string rest_;                            // file of `files_` with the checkpoint's other tensors; may be empty
};

}  // namespace amalgam
