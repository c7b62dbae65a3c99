#include "apps/recipe_overrides.h"

#include <vector>

#include "core/error.h"

namespace amalgam {
namespace {

/// Where the item of a list stands that `key` means: its number, its `name`, its `method`, or the item itself where it
/// is a word.
size_t find_item(const YAML::Node& list, const std::string& key, const std::string& where) {
  std::vector<std::string> known;
  for (size_t i = 0; i < list.size(); ++i) {
    YAML::Node item = list[i];
    std::string name = std::to_string(i);
    if (item.IsScalar()) name = item.Scalar();
    if (item.IsMap() && item["method"]) name = item["method"].Scalar();
    if (item.IsMap() && item["name"]) name = item["name"].Scalar();
    if (name == key || std::to_string(i) == key) return i;
    known.push_back(name);
  }
  throw InputError(fmt::format("--set {}: there is no '{}'{}", where, key, suggestion(key, known)));
}

/// The item as something that has keys: a row that is a bare method name becomes a map.
YAML::Node item_with_keys(YAML::Node list, size_t index) {
  if (list[index].IsScalar()) {
    YAML::Node row(YAML::NodeType::Map);
    row["method"] = list[index].Scalar();
    list[index] = row;
  }
  return list[index];
}

std::vector<std::string> split_path(const std::string& path) {
  std::vector<std::string> keys(1);
  for (const char c : path) {
    if (c == '.') {
      keys.emplace_back();
    } else {
      keys.back() += c;
    }
  }
  return keys;
}

}  // namespace

void apply_override(YAML::Node root, const std::string& text) {
  const auto equals = text.find('=');
  require_input(equals != std::string::npos && equals > 0,
                "--set {}: expected key=value, for example --set statistics.examples=500", text);
  const auto path = text.substr(0, equals);
  const auto keys = split_path(path);
  YAML::Node value;
  try {
    value = YAML::Load(text.substr(equals + 1));
  } catch (const YAML::Exception& error) {
    throw InputError(fmt::format("--set {}: the value is no YAML: {}", path, error.msg));
  }
  YAML::Node node = root;
  for (size_t i = 0; i + 1 < keys.size(); ++i) {
    YAML::Node next = node.IsSequence() ? item_with_keys(node, find_item(node, keys[i], path)) : node[keys[i]];
    node.reset(next);
  }
  require_input(!node.IsScalar(), "--set {}: '{}' holds a single value, not keys", path, keys[keys.size() - 2]);
  if (node.IsSequence()) {
    node[find_item(node, keys.back(), path)] = value;
  } else {
    node[keys.back()] = value;
  }
}

}  // namespace amalgam
