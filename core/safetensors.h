#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/tensor_source.h"

namespace amalgam {

/// Named tensors on disk with their metadata: one file, or several with an index (core/sharded_safetensors.h).
class TensorFile : public TensorSource {
 public:
  /// What the writer said of the whole.
  virtual const std::map<std::string, std::string>& metadata() const = 0;
  /// What was opened: the file, or the index.
  virtual const std::filesystem::path& path() const = 0;
};

/// A mapped `.safetensors` file: an 8-byte little-endian header length, a JSON header, the tensors' bytes.
///
/// The header is hostile until parsed: length, JSON, names, dtypes, shapes and offsets are checked against the file's
/// size before anything is allocated by them. Offsets must tile the data exactly, as the format demands. Only touched
/// pages are read. Tensors returned by `get` keep the mapping alive.
/// @source https://github.com/huggingface/safetensors, README "Format"
class SafetensorsFile final : public TensorFile {
 public:
  /// @throws InputError naming the file and what is wrong with it
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::map<std::string, TensorInfo>& infos() const override { return infos_; }
  at::Tensor get(const std::string& name) const override;
  /// Asks the kernel to read the pages of these tensors into its cache by itself (madvise, WILLNEED). What it cannot
  /// keep, for want of memory, is read again when it is touched.
  void prefetch(const std::vector<std::string>& names) const override;

  /// The `__metadata__` of the header.
  const std::map<std::string, std::string>& metadata() const override { return metadata_; }
  const std::filesystem::path& path() const override { return path_; }

 private:
  class Mapping;

  std::filesystem::path path_;
  std::shared_ptr<Mapping> mapping_;
  std::map<std::string, TensorInfo> infos_;
  std::map<std::string, size_t> begin_;  // byte offset of each tensor in the file
  std::map<std::string, std::string> metadata_;
};

/// Writes tensors in the order of their names: aside, synced, renamed. Same content, same bytes. One tensor at a time
/// is asked for, copied to the host where it is on a device, and let go.
/// @throws InputError if the file cannot be written (no space, no permission)
void write_safetensors(const std::filesystem::path& path, const TensorSource& tensors,
                       const std::map<std::string, std::string>& metadata = {});
void write_safetensors(const std::filesystem::path& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata = {});

namespace detail {

/// Bytes that the tensor takes in a file.
/// @throws InputError naming the tensor where safetensors has no such dtype
uint64_t stored_bytes(const std::string& name, const TensorInfo& info);

/// Hands the bytes of a file of these tensors to `write`, piece by piece.
/// @param names  of `tensors`, in the order in which they stand in the file
void emit_safetensors(const TensorSource& tensors, const std::vector<std::string>& names,
                      const std::map<std::string, std::string>& metadata,
                      const std::function<void(const void* data, size_t size)>& write);

}  // namespace detail

}  // namespace amalgam
