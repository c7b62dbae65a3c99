#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "core/safetensors.h"

namespace amalgam {

/// A checkpoint as Hugging Face lays it out: a folder with `model.safetensors`, or `model.safetensors.index.json` and
/// its shards, and beside them configuration, tokenizer and whatever else loads with it.
class ModelFolder {
 public:
  /// @param path  the folder; or a file of tensors, or an index, for a model that has nothing beside it
  /// @throws InputError where there are no such tensors, saying what is there, or where they are damaged
  explicit ModelFolder(std::filesystem::path path);

  const std::filesystem::path& path() const { return path_; }
  const TensorFile& tensors() const { return *tensors_; }
  /// What the tensors lie in: the file, or the index and its shards.
  std::vector<std::filesystem::path> weight_files() const;
  /// What lies beside the tensors, by its path within the folder, in order: all files but weights in any format, what
  /// is hidden, and records of merges. None for a path to a file.
  std::vector<std::filesystem::path> companions() const;

  /// The record that a merge leaves in the folder it makes.
  static constexpr const char* kRecord = "amalgam.json";

 private:
  std::filesystem::path path_;
  std::shared_ptr<const TensorFile> tensors_;
};

}  // namespace amalgam
