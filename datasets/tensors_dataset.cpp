#include "datasets/tensors_dataset.h"

#include <algorithm>

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

bool is_integer(at::ScalarType dtype) { return at::isIntegralType(dtype, /*includeBool=*/true); }

/// Names: target, input.0 … without a gap, perhaps mask, nothing else.
void require_names(const SafetensorsFile& file) {
  const std::string path = file.path().string();
  require_input(file.contains("target"), "{}: has no tensor 'target'", path);
  require_input(file.contains("input.0"), "{}: has no tensor 'input.0'; inputs are input.0, input.1, …", path);
  std::vector<std::string> names = {"target", "mask"};
  for (size_t i = 0; i < count_inputs(file); ++i) names.push_back(input_name(i));
  for (const auto& [name, info] : file.infos())
    require_input(
        std::find(names.begin(), names.end(), name) != names.end(),
        "{}: tensor '{}' is not expected there{}; there may be input.0, input.1, … without a gap, target and mask",
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
  require_input(is_integer(mask.dtype), "{}: 'mask' is {}; expected bool or integers (not 0: the row counts)", path,
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
  return examples;
}

}  // namespace

DataFormat tensors_format() {
  return {
      "tensors",
      "any data: {train,val,test}.safetensors with input.0, input.1, …, target and optionally mask; val is optional",
      has,
      check,
      read,
      read_target};
}

}  // namespace amalgam
