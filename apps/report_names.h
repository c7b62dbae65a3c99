#pragma once

#include <string>

namespace amalgam {

/// The block of the model that a parameter or layer belongs to: "blocks.0" of "body.blocks.0.attention.query.weight",
/// "head" of "head.bias".
std::string block_of(const std::string& name);

}  // namespace amalgam
