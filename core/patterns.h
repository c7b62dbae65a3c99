#pragma once

#include <string>
#include <vector>

namespace amalgam {

/// Whether a name fits any of the patterns, as a shell's: `*` any text (dots too), `?` one character, `[ab]` one of
/// these.
bool matches_any(const std::vector<std::string>& patterns, const std::string& name);

/// @param where  what the user wrote the patterns under
/// @throws InputError naming a pattern that fits no name, with some of the names
void require_matches(const std::string& where, const std::vector<std::string>& patterns,
                     const std::vector<std::string>& names);

}  // namespace amalgam
