#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "core/tensor_source.h"

namespace amalgam {

/// A mapped `.safetensors` file: an 8-byte little-endian header length, a JSON header, the tensors' bytes.
///
/// The header is hostile until parsed: length, JSON, names, dtypes, shapes and offsets are checked against the file's
/// size before anything is allocated by them. Offsets must tile the data exactly, as the format demands. Only touched
/// pages are read. Tensors returned by `get` keep the mapping alive.
/// @source https://github.com/huggingface/safetensors, README "Format"
class SafetensorsFile final : public TensorSource {
 public:
  /// @throws InputError naming the file and what is wrong with it
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::map<std::string, TensorInfo>& infos() const override { return infos_; }
  at::Tensor get(const std::string& name) const override;

  /// The `__metadata__` of the header.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  class Mapping;

  std::filesystem::path path_;
  std::shared_ptr<Mapping> mapping_;
  std::map<std::string, TensorInfo> infos_;
  std::map<std::string, size_t> begin_;  // byte offset of each tensor in the file
  std::map<std::string, std::string> metadata_;
};

/// Writes tensors in the order of their names: aside, synced, renamed. Same content, same bytes. Tensors on a device
/// are copied to the host one at a time.
/// @throws InputError if the file cannot be written (no space, no permission)
void write_safetensors(const std::filesystem::path& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace amalgam
