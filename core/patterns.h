#pragma once

#include <string>
#include <vector>

namespace amalgam {

/// Whether a name fits any of the patterns, as a shell's: `*` any text (dots too), `?` one character, `[ab]` one of
/// these.
bool matches_any(const std::vector<std::string>& patterns, const std::string& name);

}  // namespace amalgam
