#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/options.h"

namespace amalgam {

/// The `data` section of a task: where examples come from and what is done to them.
///
/// A split is made in this order: the files' examples; the seeded cut of `val` from `train` where there are no val
/// files; the examples of `classes`; the first `max_examples`; `transforms`.
struct DataSpec {
  std::string format = "idx";
  std::string root;
  double val_fraction = 0.05;
  std::vector<int64_t> classes;
  int64_t max_examples = 0;
  std::string mask = "auto";
  bool trim_padding = false;
  YAML::Node transforms{YAML::NodeType::Sequence};  ///< one-key maps, read by parse_transforms

  void declare(OptionSet& set);
};

/// All keys in one line, defaults written out: "{format: idx, root: …}".
std::string describe(const DataSpec& spec);

}  // namespace amalgam
