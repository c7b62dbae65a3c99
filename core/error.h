#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace amalgam {

/// What a user can mend: the command line, a recipe, a file. The command answers with exit code 2.
///
/// The text says what was wrong, where (file, key, layer), what was expected, and what to do.
class InputError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Someone asked the program to stop (SIGINT, SIGTERM). The command answers with exit code 130; finished steps are
/// kept.
class Interrupted : public std::runtime_error {
 public:
  Interrupted() : std::runtime_error("interrupted") {}
};

/// Throws InputError with a formatted text unless `holds`.
template <class... Args>
void require_input(bool holds, fmt::format_string<Args...> format, Args&&... args) {
  if (!holds) throw InputError(fmt::format(format, std::forward<Args>(args)...));
}

/// The candidate with the smallest edit distance to `name`; empty where none is near enough to be meant.
std::string nearest_name(const std::string& name, const std::vector<std::string>& candidates);

/// `", did you mean 'x'?"`, or `" (known: a, b, c)"` where nothing is near. To be appended to an error text.
std::string suggestion(const std::string& name, const std::vector<std::string>& candidates);

}  // namespace amalgam
