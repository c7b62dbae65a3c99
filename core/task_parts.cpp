#include "core/task_parts.h"

#include <c10/util/accumulate.h>

#include <algorithm>
#include <array>

#include "core/digest.h"
#include "core/error.h"
#include "core/low_rank.h"
#include "core/packed_bits.h"

namespace amalgam {
namespace {

constexpr const char* kBase = "base";  // no task's name: a recipe refuses it
constexpr const char* kMask = ".mask";
constexpr const char* kFormat = "amalgam task parts 1";

/// "left" and "fc.weight" of "left/fc.weight.mask", and what the name ends in beyond the tensor's own.
struct PartOf {
  std::string task, tensor, ending;
};

/// @throws InputError if no shared tensor is meant
PartOf parse(const TensorSource& shared, const std::string& name, const std::string& where) {
  const size_t slash = name.find('/');
  require_input(slash != std::string::npos && slash > 0, "{}: '{}' names no task; expected is <task>/<tensor>", where,
                name);
  const std::string task = name.substr(0, slash), rest = name.substr(slash + 1);
  if (shared.contains(rest)) return {task, rest, ""};
  for (const std::string& ending : {std::string(kMask), down_name(""), up_name("")})
    if (rest.ends_with(ending) && shared.contains(rest.substr(0, rest.size() - ending.size())))
      return {task, rest.substr(0, rest.size() - ending.size()), ending};
  throw InputError(
      fmt::format("{}: '{}' belongs to no tensor of the merged model; the file is of another one", where, name));
}

class PartsCheck {
 public:
  PartsCheck(const TensorSource& shared, const TensorSource& parts, const std::string& where)
      : shared_(shared), parts_(parts), where_(where) {}

  void run() const {
    if (has_router(parts_)) check_router();
    for (const auto& [name, info] : parts_.infos()) {
      if (has_router(parts_) && is_of_router(name)) continue;
      const PartOf part = parse(shared_, name, where_);
      if (part.ending.empty()) {
        require(name, info, shared_.infos().at(part.tensor));
      } else {
        require_input(part.task != kBase, "{}: '{}' is no value of the base", where_, name);
        part.ending == kMask ? check_mask(part, name, info) : check_factor(part, name, info);
      }
      if (part.task != kBase) check_alone(part);
    }
  }

 private:
  static bool is_of_router(const std::string& name) {
    return name == kRouterWeight || name == kRouterBias || name == kRouterMean || name == kRouterDeviation;
  }

  void check_router() const {
    const TensorInfo weight = parts_.infos().at(kRouterWeight);
    require_input(weight.shape.size() == 2, "{}: '{}' is {}, and [tasks, features] was expected", where_, kRouterWeight,
                  describe(weight));
    const auto require_part = [&](const std::string& name, const std::vector<int64_t>& shape) {
      require_input(parts_.contains(name), "{}: '{}' is missing, a part of the router", where_, name);
      require(name, parts_.infos().at(name), {at::kDouble, shape});
    };
    require_part(kRouterWeight, weight.shape);
    require_part(kRouterBias, {weight.shape[0]});
    for (const char* name : {kRouterMean, kRouterDeviation}) require_part(name, {weight.shape[1]});
  }

  void require(const std::string& name, const TensorInfo& found, const TensorInfo& expected) const {
    require_input(found == expected, "{}: '{}' is {}, and {} was expected", where_, name, describe(found),
                  describe(expected));
  }

  void check_mask(const PartOf& part, const std::string& name, const TensorInfo& info) const {
    const int64_t n = c10::multiply_integers(shared_.infos().at(part.tensor).shape);
    require(name, info, {at::kByte, {(n + 7) / 8}});
    require_input(parts_.contains(base_part_name(part.tensor)),
                  "{}: '{}' chooses between the shared value and the base's, and '{}' is missing", where_, name,
                  base_part_name(part.tensor));
  }

  void check_factor(const PartOf& part, const std::string& name, const TensorInfo& info) const {
    const auto& [dtype, shape] = shared_.infos().at(part.tensor);
    require_input(shape.size() >= 2 && at::isFloatingType(dtype) && info.shape.size() == 2 && shape[0] > 0,
                  "{}: '{}' is {}, no factor of a matrix, and '{}' is {}", where_, name, describe(info), part.tensor,
                  describe({dtype, shape}));
    const std::string weight = part_name(part.task, part.tensor);
    for (const std::string& factor : {down_name(weight), up_name(weight)})
      require_input(parts_.contains(factor), "{}: '{}' is missing, the other factor of '{}'", where_, factor, name);
    const int64_t columns = c10::multiply_integers(shape) / shape[0];
    const int64_t rank = part.ending == up_name("") ? info.shape[1] : info.shape[0];
    require(down_name(weight), parts_.infos().at(down_name(weight)), {dtype, {rank, columns}});
    require(up_name(weight), parts_.infos().at(up_name(weight)), {dtype, {shape[0], rank}});
  }

  void check_alone(const PartOf& part) const {
    const std::string weight = part_name(part.task, part.tensor);
    const std::array has = {parts_.contains(weight), parts_.contains(weight + kMask),
                            parts_.contains(down_name(weight))};
    require_input(std::ranges::count(has, true) == 1, "{}: task '{}' has several kinds of part of '{}'", where_,
                  part.task, part.tensor);
  }

  const TensorSource& shared_;
  const TensorSource& parts_;
  const std::string& where_;
};

}  // namespace

std::string part_name(const std::string& task, const std::string& tensor) { return task + "/" + tensor; }

std::string mask_name(const std::string& task, const std::string& tensor) { return part_name(task, tensor) + kMask; }

std::string base_part_name(const std::string& tensor) { return part_name(kBase, tensor); }

bool has_router(const TensorSource& parts) { return parts.contains(kRouterWeight); }

PartKind part_kind(const TensorSource& parts, const std::string& task, const std::string& tensor) {
  const std::string name = part_name(task, tensor);
  if (parts.contains(name)) return PartKind::kValue;
  if (parts.contains(name + kMask)) return PartKind::kMask;
  return parts.contains(down_name(name)) ? PartKind::kLowRank : PartKind::kNone;
}

at::Tensor with_part(const TensorSource& shared, const TensorSource& parts, const std::string& task,
                     const std::string& tensor) {
  const std::string name = part_name(task, tensor);
  const PartKind kind = part_kind(parts, task, tensor);
  if (kind == PartKind::kValue) return parts.get(name);
  const at::Tensor value = shared.get(tensor);
  if (kind == PartKind::kNone) return value;
  if (kind == PartKind::kMask)
    return at::where(unpack_bits(parts.get(name + kMask), value.sizes()), value, parts.get(base_part_name(tensor)));
  const at::Tensor change = read_low_rank(parts, name, at::TensorOptions(at::kDouble)).product();
  return (value.to(at::kDouble) + change.view(value.sizes())).to(value.scalar_type());
}

void check_parts(const TensorSource& shared, const TensorSource& parts, const std::string& where) {
  PartsCheck(shared, parts, where).run();
}

void write_task_parts(const std::filesystem::path& path, const TensorSource& parts, const TensorSource& shared,
                      std::map<std::string, std::string> about) {
  about["format"] = kFormat;
  about["shared"] = digest_of(shared);
  write_safetensors(path, parts, about);
}

std::shared_ptr<const SafetensorsFile> open_task_parts(const std::filesystem::path& path, const TensorSource& shared) {
  auto file = std::make_shared<SafetensorsFile>(path);
  const auto said = [&](const std::string& key) {
    const auto found = file->metadata().find(key);
    return found == file->metadata().end() ? std::string() : found->second;
  };
  require_input(said("format") == kFormat, "{}: this is no file of tasks' parts, or one of another version ('{}')",
                path.string(), said("format"));
  require_input(said("shared") == digest_of(shared),
                "{}: the parts belong to other shared tensors (SHA-256 {}); merge the row again", path.string(),
                said("shared"));
  check_parts(shared, *file, path.string());
  return file;
}

}  // namespace amalgam
