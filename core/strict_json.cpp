#include "core/strict_json.h"

#include <set>
#include <string>
#include <vector>

#include "core/error.h"

namespace amalgam {

nlohmann::json parse_strict_json(std::string_view text) {
  std::vector<std::set<std::string>> open;
  const auto watch = [&open](int, nlohmann::json::parse_event_t event, nlohmann::json& value) {
    using Event = nlohmann::json::parse_event_t;
    if (event == Event::object_start) open.emplace_back();
    if (event == Event::object_end) open.pop_back();
    if (event == Event::key && !open.back().insert(value.get<std::string>()).second)
      throw InputError(fmt::format("the name '{}' occurs twice", value.get<std::string>()));
    return true;
  };
  return nlohmann::json::parse(text, watch);
}

}  // namespace amalgam
