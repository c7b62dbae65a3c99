#include "datasets/formats.h"

#include "core/error.h"
#include "datasets/idx_dataset.h"
#include "datasets/tensors_dataset.h"

namespace amalgam {

const std::vector<DataFormat>& data_formats() {
  static const std::vector<DataFormat> formats = {idx_format(), tensors_format()};
  return formats;
}

std::vector<std::string> format_names() {
  std::vector<std::string> names;
  for (const DataFormat& format : data_formats()) names.push_back(format.name);
  return names;
}

const DataFormat& data_format(const std::string& name) {
  for (const DataFormat& format : data_formats())
    if (format.name == name) return format;
  throw InputError(fmt::format("there is no data format '{}'{}", name, suggestion(name, format_names())));
}

}  // namespace amalgam
