#pragma once

#include <yaml-cpp/yaml.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/options.h"
#include "models/runner.h"

namespace amalgam {

/// The architectures that can be made without a file: "vision_transformer", "convolutional", "mlp". In each the
/// classifier is `head.weight`, `head.bias`, and everything else lies under `body.`.
const std::vector<std::string>& architecture_names();

/// Makes a new model with random weights, which depend on `seed` and the options alone.
/// @param options     the architecture's own; a missing key has its default
/// @param input_shape [channels, height, width] of one example
/// @throws InputError for an unknown architecture or option, or options that do not fit the input
std::unique_ptr<ModelRunner> make_architecture(const std::string& name, const YAML::Node& options,
                                               const std::vector<int64_t>& input_shape, int64_t classes, uint64_t seed,
                                               at::Device device = at::kCPU);

/// The options with every default written out.
/// @param where path of `options` for messages: "base.train.options"
/// @throws InputError as `make_architecture`, as far as it can be told without the input
YAML::Node resolve_architecture_options(const std::string& name, const YAML::Node& options, const std::string& where);

/// For documentation.
std::vector<OptionSet::Description> describe_architecture_options(const std::string& name);

}  // namespace amalgam
