#include "apps/report_names.h"

#include <algorithm>
#include <vector>

namespace amalgam {

std::string block_of(const std::string& name) {
  std::vector<std::string> parts(1);
  for (const char c : name) {
    if (c == '.') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  const auto is_number = [](const std::string& part) {
    return !part.empty() && std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
  };
  for (size_t i = 1; i < parts.size(); ++i)
    if (is_number(parts[i])) return parts[i - 1] + "." + parts[i];
  const auto& last = parts.back();
  return parts.size() > 1 && (last == "weight" || last == "bias") ? parts[parts.size() - 2] : last;
}

}  // namespace amalgam
