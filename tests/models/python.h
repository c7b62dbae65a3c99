#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

namespace amalgam {

/// The Python with torch that scripts/setup makes.
inline const std::filesystem::path kPython = std::filesystem::path(AMALGAM_SOURCE_DIR) / ".deps/venv/bin/python";

/// True if `tests/models/<script> arguments` ends well.
inline bool run_python(const std::string& script, const std::string& arguments) {
  const auto path = std::filesystem::path(AMALGAM_SOURCE_DIR) / "tests/models" / script;
  return std::system((kPython.string() + " '" + path.string() + "' " + arguments).c_str()) == 0;
}

}  // namespace amalgam
