#include "datasets/idx_dataset.h"

#include <fmt/ranges.h>

#include "core/error.h"
#include "datasets/idx.h"

namespace amalgam {

namespace {

using Folder = DataFormat::Folder;

constexpr const char* kImages = "images-idx3-ubyte";
constexpr const char* kLabels = "labels-idx1-ubyte";
constexpr size_t kImageAxes = 3, kLabelAxes = 1;

std::vector<std::string> file_names(Split split, const std::string& kind) {
  std::vector<std::string> names;
  for (const std::string prefix : {name_of(split), "t10k"}) {
    if (prefix == "t10k" && split != Split::kTest) continue;
    for (const std::string suffix : {"", ".gz"}) names.push_back(prefix + "-" + kind + suffix);
  }
  return names;
}

/// The first of the possible names that is there; empty if none is.
Folder find_file(const Folder& root, Split split, const std::string& kind) {
  for (const std::string& name : file_names(split, kind)) {
    std::error_code ignored;
    if (std::filesystem::exists(root / name, ignored)) return root / name;
  }
  return {};
}

Folder require_file(const Folder& root, Split split, const std::string& kind) {
  Folder file = find_file(root, split, kind);
  require_input(!file.empty(), "{}: the {} split needs one of the files {}; none is there", root.string(),
                name_of(split), fmt::join(file_names(split, kind), ", "));
  return file;
}

void require_pairs(const Folder& images, int64_t image_count, const Folder& labels, int64_t label_count) {
  require_input(image_count == label_count, "{} holds {} images, but {} holds {} labels; they must be one each",
                images.string(), image_count, labels.string(), label_count);
}

bool has(const Folder& root, Split split) {
  return !find_file(root, split, kImages).empty() || !find_file(root, split, kLabels).empty();
}

void check(const Folder& root, Split split) {
  const Folder images = require_file(root, split, kImages), labels = require_file(root, split, kLabels);
  require_pairs(images, check_idx(images, kImageAxes)[0], labels, check_idx(labels, kLabelAxes)[0]);
}

at::Tensor read_target(const Folder& root, Split split) {
  return read_idx(require_file(root, split, kLabels), kLabelAxes).to(at::kLong);
}

Examples read(const Folder& root, Split split) {
  const Folder images = require_file(root, split, kImages), labels = require_file(root, split, kLabels);
  Examples examples;
  examples.origin = labels.string();
  examples.target = read_target(root, split);
  examples.inputs = {read_idx(images, kImageAxes).unsqueeze(1)};  // [N, 1, H, W]
  require_pairs(images, examples.inputs[0].size(0), labels, examples.count());
  return examples;
}

}  // namespace

DataFormat idx_format() {
  return {
      "idx",
      "grey images: {train,val,test or t10k}-images-idx3-ubyte and …-labels-idx1-ubyte, plain or .gz; val is optional",
      has,
      check,
      read,
      read_target};
}

}  // namespace amalgam
