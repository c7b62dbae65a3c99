#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

namespace amalgam {

/// Parses JSON that a stranger may have written, and refuses two keys of one name in one object: of these the library
/// would keep the last in silence, and other readers the first.
/// @throws InputError naming a key that occurs twice; nlohmann::json::exception for what is no JSON
nlohmann::json parse_strict_json(std::string_view text);

}  // namespace amalgam
