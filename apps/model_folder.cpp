#include "apps/model_folder.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "core/error.h"
#include "core/sharded_safetensors.h"

namespace amalgam {
namespace {

namespace fs = std::filesystem;

constexpr const char* kIndexEnding = ".safetensors.index.json";

/// Of formats that hold weights, by the ends of their files' names.
const std::set<std::string> kWeightEndings = {".safetensors", ".bin", ".pt",      ".pth",  ".ckpt",
                                              ".gguf",        ".h5",  ".msgpack", ".onnx", ".onnx_data"};

bool is_weights(const fs::path& path) {
  return kWeightEndings.contains(path.extension().string()) || path.string().ends_with(".index.json");
}

/// The file or index in a folder that holds the model's tensors.
fs::path weights_in(const fs::path& folder) {
  const fs::path usual = stored_safetensors(folder / "model.safetensors");
  if (fs::exists(usual)) return usual;
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(folder))
    if (is_weights(entry.path())) found.push_back(entry.path().filename().string());
  std::ranges::sort(found);
  require_input(!found.empty(), "{}: this folder holds no model.safetensors and no model{}", folder.string(),
                kIndexEnding);
  throw InputError(
      fmt::format("{}: this folder holds no model.safetensors and no model{}, but {}; give the path of a safetensors "
                  "file or index itself, and save other formats anew (transformers: `save_pretrained`)",
                  folder.string(), kIndexEnding, fmt::join(found, ", ")));
}

}  // namespace

ModelFolder::ModelFolder(fs::path path) : path_(std::move(path)) {
  require_input(fs::exists(path_), "{}: there is no such folder or file", path_.string());
  tensors_ = open_safetensors(fs::is_directory(path_) ? weights_in(path_) : path_);
}

std::vector<fs::path> ModelFolder::weight_files() const {
  std::vector<fs::path> files = {tensors_->path()};
  if (const auto* sharded = dynamic_cast<const ShardedSafetensors*>(tensors_.get()))
    for (const auto& [name, shard] : sharded->shards()) files.push_back(shard.path());
  return files;
}

std::vector<fs::path> ModelFolder::companions() const {
  std::vector<fs::path> files;
  if (!fs::is_directory(path_)) return files;
  for (auto entry = fs::recursive_directory_iterator(path_); entry != fs::recursive_directory_iterator(); ++entry) {
    const std::string name = entry->path().filename().string();
    if (name.starts_with('.')) {
      entry.disable_recursion_pending();
    } else if (entry->is_regular_file() && !is_weights(entry->path()) && name != kRecord) {
      files.push_back(entry->path().lexically_relative(path_));  // not where a link leads to
    }
  }
  std::ranges::sort(files);
  return files;
}

}  // namespace amalgam
