#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "core/safetensors.h"

namespace amalgam {

/// Tensors in several mapped safetensors files, found by an index as Hugging Face writes it,
/// `NAME.safetensors.index.json`:
///
///     {"metadata": {"total_size": 123, "key": "value", "shard_sha256": {"NAME-….safetensors": "64 hex digits"}},
///      "weight_map": {"tensor": "NAME-….safetensors"}}
///
/// The index is hostile until checked: shards are plain names of files beside it; a shard holds just the tensors that
/// the map puts there, so no tensor stands twice. Only touched pages are read. Of the index's metadata those values
/// count that are texts; what shards say of themselves does not.
class ShardedSafetensors final : public TensorFile {
 public:
  /// The key, in the index's metadata, of each shard's SHA-256: through it a digest of the index pins every byte.
  /// Indices that others wrote lack it.
  static constexpr const char* kDigests = "shard_sha256";
  /// The key of the bytes that all tensors take.
  static constexpr const char* kTotalSize = "total_size";

  /// @throws InputError naming the index, and the shard or the tensor that does not fit
  explicit ShardedSafetensors(const std::filesystem::path& index);
  ShardedSafetensors(const ShardedSafetensors&) = delete;
  ShardedSafetensors& operator=(const ShardedSafetensors&) = delete;

  const std::map<std::string, TensorInfo>& infos() const override { return infos_; }
  at::Tensor get(const std::string& name) const override;
  void prefetch(const std::vector<std::string>& names) const override;
  const std::map<std::string, std::string>& metadata() const override { return metadata_; }
  const std::filesystem::path& path() const override { return path_; }

  /// The files, by name.
  const std::map<std::string, SafetensorsFile>& shards() const { return shards_; }

  /// Reads every shard and compares it with the digest in the index.
  /// @throws InputError naming a shard of other content, or the index where it holds no digests
  void verify() const;

 private:
  void open_shards(const std::map<std::string, std::string>& weight_map);

  std::filesystem::path path_;
  std::map<std::string, SafetensorsFile> shards_;
  std::map<std::string, const SafetensorsFile*> shard_of_;  // tensor -> one of shards_
  std::map<std::string, TensorInfo> infos_;
  std::map<std::string, std::string> metadata_;
  std::map<std::string, std::string> digests_;  // shard -> SHA-256; empty where the index has none
};

/// The file that `path` stands for: `NAME.safetensors` itself, or `NAME.safetensors.index.json` where only that is
/// there, since the tensors were too large for one file. Any other path is itself.
std::filesystem::path stored_safetensors(const std::filesystem::path& path);

/// Opens what `path` names: one safetensors file, or an index (`….index.json`) with its shards, by
/// `stored_safetensors`.
/// @throws InputError naming the file and what is wrong with it
std::shared_ptr<const TensorFile> open_safetensors(const std::filesystem::path& path);

/// Writes tensors, one in memory at a time, to `NAME.safetensors` where they fit into `max_shard_bytes`, else to shards
/// `NAME-<digest>-00001-of-00003.safetensors` and the index `NAME.safetensors.index.json`. Same content, same bytes,
/// same names.
///
/// A shard's name holds the first 16 digits of its SHA-256, so a new set never writes over the shards of an older one
/// with the same NAME: whenever the program is stopped, `open_safetensors(path)` finds the whole old set or the whole
/// new one. After that the older set's files are removed: the single file or the index, and all files here that are
/// named like shards of NAME.
/// @param path             NAME.safetensors
/// @param max_shard_bytes  of the tensors in one shard; a larger tensor has a shard of its own
/// @return the file to open: `path`, or the index
/// @throws InputError if `path` does not end in .safetensors, a key of `metadata` is one of the index's own
/// (`kDigests`, `kTotalSize`), or a file cannot be written
std::filesystem::path write_safetensors_sharded(const std::filesystem::path& path, const TensorSource& tensors,
                                                const std::map<std::string, std::string>& metadata,
                                                uint64_t max_shard_bytes);

}  // namespace amalgam
