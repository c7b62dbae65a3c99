#include "datasets/tensors_dataset.h"

#include <algorithm>
#include <string_view>

#include "core/error.h"
#include "core/safetensors.h"

namespace amalgam {

namespace {

using Folder = DataFormat::Folder;

Folder file_of(const Folder& root, Split split) { return root / (std::string(name_of(split)) + ".safetensors"); }

std::string input_name(size_t position) { return "input." + std::to_string(position); }

size_t count_inputs(const SafetensorsFile& file) {
  size_t inputs = 0;
  while (file.contains(input_name(inputs))) ++inputs;
  return inputs;
}

bool is_identifier(const std::string& name) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  return !name.empty() && letter(name.front()) &&
         std::all_of(name.begin(), name.end(), [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
}

/// "input.attention_mask" -> "attention_mask"; empty for another tensor.
std::string named_input(const std::string& tensor) {
  constexpr std::string_view kPrefix = "input.";
  if (!tensor.starts_with(kPrefix)) return {};
  const std::string name = tensor.substr(kPrefix.size());
  return is_identifier(name) ? name : std::string();
}

bool is_integer(at::ScalarType dtype) { return at::isIntegralType(dtype, /*includeBool=*/true); }

/// Names: target, input.0 … without a gap, input.<identifier>, perhaps mask, nothing else; at least one input.
void require_names(const SafetensorsFile& file) {
  const std::string path = file.path().string();
  require_input(file.contains("target"), "{}: has no tensor 'target'", path);
  std::vector<std::string> names = {"target", "mask"};
  for (size_t i = 0; i < count_inputs(file); ++i) names.push_back(input_name(i));
  for (const auto& [name, info] : file.infos())
    if (!named_input(name).empty()) names.push_back(name);
  const bool has_input = std::any_of(names.begin(), names.end(), [](const auto& n) { return n.starts_with("input."); });
  require_input(has_input, "{}: has no tensor 'input.0'; inputs are input.0, input.1, …, or input.<name>", path);
  for (const auto& [name, info] : file.infos())
    require_input(std::find(names.begin(), names.end(), name) != names.end(),
                  "{}: tensor '{}' is not expected there{}; there may be input.0, input.1, … without a gap, "
                  "input.<name>, target and mask",
                  path, name, suggestion(name, names));
}

/// Checks shapes and dtypes, all of which stand in the header.
void require_examples(const SafetensorsFile& file) {
  const std::string path = file.path().string();
  const TensorInfo& target = file.infos().at("target");
  for (const auto& [name, info] : file.infos())
    require_input(!info.shape.empty() && std::find(info.shape.begin(), info.shape.end(), 0) == info.shape.end(),
                  "{}: tensor '{}' is {}; it needs a first axis, the example, and values", path, name, describe(info));
  for (const auto& [name, info] : file.infos())
    require_input(info.shape[0] == target.shape[0],
                  "{}: '{}' is {}, but 'target' is {}; the first axis is the example, so they must agree there", path,
                  name, describe(info), describe(target));
  require_input(is_integer(target.dtype) || at::isFloatingType(target.dtype),
                "{}: 'target' is {}; expected integers (classes, tokens) or floating values", path, describe(target));
  if (!file.contains("mask")) return;
  const TensorInfo& mask = file.infos().at("mask");
  require_input(is_integer(mask.dtype) && mask.shape.size() == 2,
                "{}: 'mask' is {}; expected bool or integers [examples, positions] (not 0: the position counts)", path,
                describe(mask));
}

SafetensorsFile open(const Folder& root, Split split) {
  SafetensorsFile file(file_of(root, split));
  require_names(file);
  require_examples(file);
  return file;
}

at::Tensor target_of(const SafetensorsFile& file) {
  const at::Tensor target = file.get("target");
  return is_integer(target.scalar_type()) ? target.to(at::kLong) : target;
}

bool has(const Folder& root, Split split) {
  std::error_code ignored;
  return std::filesystem::exists(file_of(root, split), ignored);
}

void check(const Folder& root, Split split) { open(root, split); }

at::Tensor read_target(const Folder& root, Split split) { return target_of(open(root, split)); }

Examples read(const Folder& root, Split split) {
  const SafetensorsFile file = open(root, split);
  Examples examples;
  examples.origin = file.path().string();
  examples.target = target_of(file);
  if (file.contains("mask")) examples.mask = file.get("mask").to(at::kBool);
  for (size_t i = 0; i < count_inputs(file); ++i) examples.inputs.push_back(file.get(input_name(i)));
  for (const auto& [name, info] : file.infos())
    if (const std::string input = named_input(name); !input.empty())
      examples.named_inputs.emplace(input, file.get(name));
  return examples;
}

}  // namespace

DataFormat tensors_format() {
  return {
      "tensors",
      "any data: {train,val,test}.safetensors with input.0, input.1, … or input.<name>, target and optionally mask; "
      "val is optional",
      has,
      check,
      read,
      read_target};
}

}  // namespace amalgam
