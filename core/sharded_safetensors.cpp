#include "core/sharded_safetensors.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <regex>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "core/atomic_file.h"
#include "core/digest.h"
#include "core/error.h"
#include "core/strict_json.h"

namespace amalgam {
namespace {

constexpr const char* kEnding = ".safetensors";
constexpr const char* kIndexEnding = ".index.json";
constexpr const char* kFormat = "format";        // stands in each shard too: transformers looks for it there
constexpr uint64_t kLargestIndex = 100'000'000;  // as the header of one file
constexpr size_t kDigestDigits = 16;             // of a shard's digest, in its name
constexpr size_t kMostShards = 99'999;           // that five digits count

/// A shard lies beside its index: a name with any path in it could point anywhere.
void require_plain_name(const std::string& file) {
  require_input(file.ends_with(kEnding) && file.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos,
                "its weight_map names the file {}, which is no plain name of a safetensors file beside the index",
                nlohmann::json(file).dump());  // as the index has it, zero bytes and all
}

std::map<std::string, std::string> digests_from(const nlohmann::json& json) {
  const auto digests = json.get<std::map<std::string, std::string>>();
  for (const auto& [file, digest] : digests)
    require_input(digest.size() == 64 && digest.find_first_not_of("0123456789abcdef") == std::string::npos,
                  "the digest of '{}' is not 64 hexadecimal digits", file);
  return digests;
}

std::filesystem::path index_of(const std::filesystem::path& path) { return path.string() + kIndexEnding; }

/// Puts the index's path before what `work` throws.
template <class Work>
void with_path(const std::filesystem::path& path, Work work) {
  try {
    work();
  } catch (const nlohmann::json::exception& error) {
    throw InputError(fmt::format("{}: damaged index of safetensors shards: {}", path.string(), error.what()));
  } catch (const InputError& error) {
    throw InputError(fmt::format("{}: {}", path.string(), error.what()));
  }
}

}  // namespace

ShardedSafetensors::ShardedSafetensors(const std::filesystem::path& index) : path_(index) {
  with_path(path_, [&] {
    std::error_code error;
    require_input(std::filesystem::is_regular_file(path_, error), "there is no such file, or no plain one");
    require_input(std::filesystem::file_size(path_, error) <= kLargestIndex, "an index is never as large as that");
    const auto json = parse_strict_json(read_file(path_));
    require_input(json.is_object() && json.contains("weight_map"), "an index has a weight_map, and this has none");
    const auto about = json.value("metadata", nlohmann::json::object());
    require_input(about.is_object(), "its metadata is no JSON object");
    for (const auto& [key, value] : about.items())
      if (value.is_string()) metadata_[key] = value.get<std::string>();
    if (about.contains(kDigests)) digests_ = digests_from(about[kDigests]);
    open_shards(json["weight_map"].get<std::map<std::string, std::string>>());
  });
}

void ShardedSafetensors::open_shards(const std::map<std::string, std::string>& weight_map) {
  require_input(!weight_map.empty(), "its weight_map is empty");
  for (const auto& [name, file] : weight_map) {
    if (!shards_.contains(file)) {
      require_plain_name(file);
      shards_.emplace(file, SafetensorsFile(path_.parent_path() / file));
    }
    const SafetensorsFile& shard = shards_.at(file);
    require_input(shard.contains(name), "its weight_map puts tensor '{}' into {}, which does not hold it", name, file);
    shard_of_[name] = &shard;
    infos_[name] = shard.infos().at(name);
  }
  for (const auto& [file, shard] : shards_)
    for (const auto& [name, info] : shard.infos()) {
      const auto mapped = weight_map.find(name);
      require_input(mapped != weight_map.end(), "{} holds tensor '{}', which the weight_map does not know", file, name);
      require_input(mapped->second == file, "tensor '{}' stands in {} and in {}", name, mapped->second, file);
    }
  if (digests_.empty()) return;
  for (const auto& [file, shard] : shards_) require_input(digests_.contains(file), "its {} lacks {}", kDigests, file);
  require_input(digests_.size() == shards_.size(), "its {} names files that the weight_map does not", kDigests);
}

at::Tensor ShardedSafetensors::get(const std::string& name) const {
  const auto found = shard_of_.find(name);
  require_input(found != shard_of_.end(), "{} holds no tensor '{}'", path_.string(), name);
  return found->second->get(name);
}

void ShardedSafetensors::prefetch(const std::vector<std::string>& names) const {
  for (const std::string& name : names)
    if (const auto found = shard_of_.find(name); found != shard_of_.end()) found->second->prefetch({name});
}

void ShardedSafetensors::verify() const {
  require_input(!digests_.empty(), "{}: the index holds no {}; only amalgam writes them", path_.string(), kDigests);
  for (const auto& [file, expected] : digests_) {
    const auto found = digest_of_file(shards_.at(file).path());
    require_input(found == expected, "{}: the shard {} has SHA-256 {}, but the index says {}; fetch it again",
                  path_.string(), file, found, expected);
  }
}

std::filesystem::path stored_safetensors(const std::filesystem::path& path) {
  return !std::filesystem::exists(path) && std::filesystem::exists(index_of(path)) ? index_of(path) : path;
}

std::shared_ptr<const TensorFile> open_safetensors(const std::filesystem::path& named) {
  const auto path = stored_safetensors(named);
  if (path.string().ends_with(kIndexEnding)) return std::make_shared<const ShardedSafetensors>(path);
  return std::make_shared<const SafetensorsFile>(path);
}

namespace {

/// The names of the tensors of each shard, in order: a shard is closed before it would grow past the limit.
std::vector<std::vector<std::string>> plan_shards(const TensorSource& tensors, uint64_t max_shard_bytes) {
  std::vector<std::vector<std::string>> shards(1);
  uint64_t bytes = 0;
  for (const auto& [name, info] : tensors.infos()) {
    const uint64_t more = detail::stored_bytes(name, info);
    if (!shards.back().empty() && (bytes > max_shard_bytes || more > max_shard_bytes - bytes)) {
      shards.emplace_back();
      bytes = 0;
    }
    shards.back().push_back(name);
    bytes += more;
  }
  return shards;
}

/// Writes one shard under the name that its content gives it; the file's name and its SHA-256.
std::pair<std::string, std::string> write_shard(const std::filesystem::path& path, const TensorSource& tensors,
                                                const std::vector<std::string>& names,
                                                const std::map<std::string, std::string>& metadata, size_t number,
                                                size_t count) {
  AtomicFile file(path);
  Digest digest;
  detail::emit_safetensors(tensors, names, metadata, [&](const void* data, size_t size) {
    digest.add(data, size);
    file.write(data, size);
  });
  const std::string hex = digest.hex();
  const auto shard = path.parent_path() / fmt::format("{}-{}-{:05}-of-{:05}{}", path.stem().string(),
                                                      hex.substr(0, kDigestDigits), number, count, kEnding);
  file.set_path(shard);
  file.commit();
  return {shard.filename().string(), hex};
}

/// Removes the files beside `path` that are named like a part of its set, but for those of `keep`.
void remove_others(const std::filesystem::path& path, const std::set<std::string>& keep) {
  const std::string stem = path.stem().string();
  const std::regex shard_ending(R"((-[0-9a-f]{16})?-[0-9]{5}-of-[0-9]{5}\.safetensors)");
  const auto folder = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  std::vector<std::filesystem::path> stale;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    const bool whole = name == path.filename() || name == index_of(path.filename());
    const bool shard = name.starts_with(stem) && std::regex_match(name.substr(stem.size()), shard_ending);
    if ((whole || shard) && !keep.contains(name)) stale.push_back(entry.path());
  }
  // The index before its shards: what is left of it after a stop is then no set at all, not a broken one.
  std::sort(stale.begin(), stale.end(), [](const auto& a, const auto& b) {
    return std::tuple(!a.string().ends_with(kIndexEnding), a) < std::tuple(!b.string().ends_with(kIndexEnding), b);
  });
  for (const auto& file : stale) {
    std::error_code error;
    std::filesystem::remove(file, error);
    require_input(!error, "cannot remove {}, which an older set left: {}", file.string(), error.message());
  }
}

}  // namespace

std::filesystem::path write_safetensors_sharded(const std::filesystem::path& path, const TensorSource& tensors,
                                                const std::map<std::string, std::string>& metadata,
                                                uint64_t max_shard_bytes) {
  require_input(path.extension() == kEnding, "{}: a file of tensors is to be called NAME{}", path.string(), kEnding);
  for (const char* own : {ShardedSafetensors::kDigests, ShardedSafetensors::kTotalSize})
    require_input(!metadata.contains(own), "{}: the metadata key '{}' is the index's own; use another", path.string(),
                  own);
  const auto shards = plan_shards(tensors, max_shard_bytes);
  require_input(shards.size() <= kMostShards, "{}: {} shards are more than names can count; allow larger ones",
                path.string(), shards.size());
  if (shards.size() == 1) {
    write_safetensors(path, tensors, metadata);
    remove_others(path, {path.filename().string()});
    return path;
  }
  std::map<std::string, std::string> of_shards;
  if (const auto format = metadata.find(kFormat); format != metadata.end()) of_shards.insert(*format);
  nlohmann::json weight_map, digests;
  std::set<std::string> keep = {index_of(path.filename()).string()};
  uint64_t total = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    const auto [file, digest] = write_shard(path, tensors, shards[i], of_shards, i + 1, shards.size());
    keep.insert(file);
    digests[file] = digest;
    for (const auto& name : shards[i]) {
      weight_map[name] = file;
      total += detail::stored_bytes(name, tensors.infos().at(name));
    }
  }
  nlohmann::json about = metadata;
  about[ShardedSafetensors::kTotalSize] = total;
  about[ShardedSafetensors::kDigests] = digests;
  write_file(index_of(path), nlohmann::json{{"metadata", about}, {"weight_map", weight_map}}.dump(2) + "\n");
  remove_others(path, keep);
  return index_of(path);
}

}  // namespace amalgam
