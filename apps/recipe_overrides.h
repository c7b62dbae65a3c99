#pragma once

#include <yaml-cpp/yaml.h>

#include <string>

namespace amalgam {

/// Sets one value of a recipe: "path=value", where dots separate keys and a list's item goes by its number, its name or
/// its method; the value is YAML.
/// @throws InputError if there is no such item, or the value is no YAML
void apply_override(YAML::Node root, const std::string& text);

}  // namespace amalgam
