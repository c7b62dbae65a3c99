#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "datasets/split.h"

namespace amalgam {

/// The examples of one file set as they are stored; N is the first axis of every tensor.
struct Examples {
  std::vector<at::Tensor> inputs;                  ///< by position, [N, …]
  std::map<std::string, at::Tensor> named_inputs;  ///< by name, [N, …]
  at::Tensor target;                               ///< int64 or floating, [N, …]
  at::Tensor mask;                                 ///< bool [N, …]; undefined where there is none
  std::string origin;                              ///< the file with the targets, for messages

  int64_t count() const { return target.size(0); }
};

/// A way to lay out examples in the files of one folder.
struct DataFormat {
  using Folder = std::filesystem::path;

  std::string name;
  std::string help;                     ///< which files it wants
  bool (*has)(const Folder&, Split);    ///< whether any file of the split is there
  void (*check)(const Folder&, Split);  ///< headers, shapes and sizes, without reading the content
  Examples (*read)(const Folder&, Split);
  at::Tensor (*read_target)(const Folder&, Split);
};

/// Every format there is.
const std::vector<DataFormat>& data_formats();
std::vector<std::string> format_names();
/// @throws InputError naming the nearest one
const DataFormat& data_format(const std::string& name);

}  // namespace amalgam
