#include "core/patterns.h"

#include <fmt/ranges.h>
#include <fnmatch.h>

#include <algorithm>

#include "core/error.h"

namespace amalgam {
namespace {

constexpr size_t kShown = 4;

/// "a, b, c", or "a, b, c, d and 20 more".
std::string some_of(const std::vector<std::string>& names) {
  const size_t shown = names.size() <= kShown + 1 ? names.size() : kShown;
  std::string text = fmt::format("{}", fmt::join(names.begin(), names.begin() + static_cast<ptrdiff_t>(shown), ", "));
  return shown == names.size() ? text : text + fmt::format(" and {} more", names.size() - shown);
}

}  // namespace

bool matches_any(const std::vector<std::string>& patterns, const std::string& name) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](const std::string& pattern) { return ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0; });
}

void require_matches(const std::string& where, const std::vector<std::string>& patterns,
                     const std::vector<std::string>& names) {
  for (const std::string& pattern : patterns) {
    if (std::ranges::any_of(names, [&](const std::string& name) { return matches_any({pattern}, name); })) continue;
    const std::string near = nearest_name(pattern, names);
    throw InputError(fmt::format("{}: nothing fits '{}'{}; there are {}", where, pattern,
                                 near.empty() ? "" : fmt::format(", did you mean '{}'?", near), some_of(names)));
  }
}

}  // namespace amalgam
