#include "apps/hf_folder.h"

#include <algorithm>
#include <functional>
#include <optional>

#include "apps/staged_folder.h"
#include "core/atomic_file.h"
#include "core/error.h"
#include "core/safetensors.h"
#include "core/strict_json.h"

namespace amalgam {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int kVersion = 1;  // of the names, as models/export writes them

at::ScalarType dtype_from_name(const std::string& name) {
  static const std::map<std::string, at::ScalarType> known = {
      {"float64", at::kDouble}, {"float32", at::kFloat}, {"float16", at::kHalf}, {"bfloat16", at::kBFloat16},
      {"int64", at::kLong},     {"int32", at::kInt},     {"int16", at::kShort},  {"int8", at::kChar},
      {"uint8", at::kByte},     {"bool", at::kBool}};
  const auto found = known.find(name);
  require_input(found != known.end(), "'{}' is no dtype that is known here", name);
  return found->second;
}

/// Whether a file of this name stays in its folder.
bool is_inside(const std::string& name) {
  const fs::path path(name);
  return !name.empty() && path.is_relative() &&
         std::none_of(path.begin(), path.end(), [](const fs::path& part) { return part == ".." || part == "."; });
}

/// The checkpoint's tensors, each made when it is asked for.
class OriginalTensors final : public TensorSource {
 public:
  using Make = std::function<at::Tensor()>;

  void add(const std::string& name, const TensorInfo& info, Make make) {
    infos_[name] = info;
    make_[name] = std::move(make);
  }
  const std::map<std::string, TensorInfo>& infos() const override { return infos_; }
  at::Tensor get(const std::string& name) const override { return make_.at(name)(); }

 private:
  std::map<std::string, TensorInfo> infos_;
  std::map<std::string, Make> make_;
};

}  // namespace

HfFolder::HfFolder(fs::path base, fs::path output) : names_(base), files_(base), output_(replaceable_place(output)) {
  names_.replace_extension(".names.json");
  files_.replace_extension(".hf");
  std::error_code none;
  require_input(!fs::exists(output_) || (fs::is_directory(output_) && fs::is_empty(output_, none)),
                "--write-hf {}: it is there already; give another place, or remove it", output_.string());
  require_input(fs::is_regular_file(names_),
                "--write-hf: there is no {}; it takes a base that `python -m amalgam_export encoder` wrote "
                "(docs/export.md), with this file beside it",
                names_.string());
  try {
    read_names();
  } catch (const json::exception& error) {
    throw InputError(
        fmt::format("{}: not the names of an export ({}); export the base again", names_.string(), error.what()));
  } catch (const InputError& error) {
    throw InputError(fmt::format("{}: {}; export the base again", names_.string(), error.what()));
  }
  require_files();
}

void HfFolder::read_names() {
  const json record = parse_strict_json(read_file(names_));
  require_input(record.at("version").get<int>() == kVersion, "names of version {}, and this program reads {}",
                record.at("version").get<int>(), kVersion);
  require_input(record.at("kind").get<std::string>() == "encoder",
                "the base was made of a plain module, which transformers does not load");
  for (const auto& [name, tensor] : record.at("tensors").items()) {
    Original& original = tensors_[name];
    tensor.at("name").get_to(original.name);
    original.info.dtype = dtype_from_name(tensor.at("dtype").get<std::string>());
    tensor.at("shape").get_to(original.info.shape);
    tensor.at("transposed").get_to(original.transposed);
    require_input(!original.transposed || original.info.shape.size() == 2, "'{}' is transposed, but no matrix", name);
  }
  record.at("aliases").get_to(aliases_);
  record.at("files").get_to(copied_);
  record.at("rest").get_to(rest_);
}

void HfFolder::require_files() const {
  for (const std::string& name : copied_) {
    require_input(is_inside(name), "{}: the file '{}' would lie outside of {}; export the base again", names_.string(),
                  name, files_.string());
    require_input(fs::is_regular_file(files_ / name), "{}: it lacks {}; put the folder that the export wrote there",
                  files_.string(), name);
  }
  if (rest_.empty()) return;
  require_input(is_inside(rest_) && fs::is_regular_file(files_ / rest_),
                "{}: it lacks {}; put the folder that the export wrote there", files_.string(), rest_);
  SafetensorsFile(files_ / rest_);
}

std::string HfFolder::known_as(const std::string& name, const std::map<std::string, TensorInfo>& infos) const {
  if (infos.contains(name)) return name;
  const auto alias = aliases_.find(name);
  const std::string& first = alias == aliases_.end() ? name : alias->second;
  if (infos.contains(first)) return first;
  for (const auto& [other, its_first] : aliases_)
    if (its_first == first && infos.contains(other)) return other;
  return "";
}

void HfFolder::check(const std::map<std::string, TensorInfo>& base_infos) const {
  for (const auto& [name, info] : base_infos)
    require_input(!name.ends_with(".ia3_l"),
                  "--write-hf: '{}' is a vector of (IA)³, which the checkpoint's model has no place for; `python -m "
                  "amalgam_export hf` folds it into the weights",
                  name);
  for (const auto& [name, original] : tensors_) {
    const std::string known = known_as(name, base_infos);
    require_input(!known.empty(),
                  "--write-hf: '{}', which the checkpoint calls '{}', is no shared tensor of the base; the body of an "
                  "exported encoder must not be private, and {} must be of this base",
                  name, original.name, names_.string());
    auto shape = base_infos.at(known).shape;
    if (original.transposed) std::reverse(shape.begin(), shape.end());
    require_input(shape == original.info.shape,
                  "--write-hf: the base's '{}' is {}, and {} says that the checkpoint has {}", name,
                  describe(base_infos.at(known)), names_.string(), describe(original.info));
  }
}

void HfFolder::write(const TensorSource& merged, const TensorSource& base) const {
  OriginalTensors originals;
  for (const auto& [name, original] : tensors_) {
    const std::string of_merged = known_as(name, merged.infos()), of_base = known_as(name, base.infos());
    originals.add(original.name, original.info, [&merged, &base, &original = original, of_merged, of_base] {
      const at::Tensor value = of_merged.empty() ? base.get(of_base) : merged.get(of_merged);
      return (original.transposed ? value.t() : value).to(original.info.dtype).contiguous();
    });
  }
  std::optional<SafetensorsFile> rest;
  if (!rest_.empty()) {
    rest.emplace(files_ / rest_);
    for (const auto& [name, info] : rest->infos())
      originals.add(name, info, [&rest, name = name] { return rest->get(name); });
  }
  StagedFolder folder(output_);
  for (const std::string& name : copied_) write_file(folder.stage() / name, read_file(files_ / name));
  write_safetensors(folder.stage() / "model.safetensors", originals, {{"format", "pt"}});
  folder.commit();
}

}  // namespace amalgam
