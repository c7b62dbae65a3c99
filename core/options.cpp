#include "core/options.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "core/error.h"

namespace amalgam {
namespace {

std::string join(const std::string& where, const std::string& key) { return where.empty() ? key : where + "." + key; }

template <class T>
T scalar(const YAML::Node& node, const std::string& where, const char* expected) {
  require_input(node.IsScalar(), "{}: expected {}", where, expected);
  try {
    return node.as<T>();
  } catch (const YAML::Exception&) {
    throw InputError(fmt::format("{}: expected {}, found '{}'", where, expected, node.Scalar()));
  }
}

void require_in(double value, OptionSet::Range range, const std::string& where) {
  require_input(!std::isnan(value) && value >= range.low && value <= range.high, "{}: {} is out of range [{}, {}]",
                where, value, range.low, range.high);
}

double read_real(const YAML::Node& node, OptionSet::Range range, const std::string& where) {
  const auto value = scalar<double>(node, where, "a number");
  require_in(value, range, where);
  return value;
}

int64_t read_integer(const YAML::Node& node, OptionSet::Range range, const std::string& where) {
  const auto value = scalar<int64_t>(node, where, "a whole number");
  require_in(static_cast<double>(value), range, where);
  return value;
}

/// "1024", "500MB", "1.5 GiB"
int64_t read_bytes(const std::string& text, const std::string& where) {
  static const std::map<std::string, double> units = {{"", 1},         {"B", 1},       {"kB", 1e3},     {"MB", 1e6},
                                                      {"GB", 1e9},     {"TB", 1e12},   {"KiB", 0x1p10}, {"MiB", 0x1p20},
                                                      {"GiB", 0x1p30}, {"TiB", 0x1p40}};
  double number = -1;
  size_t read = 0;
  try {
    number = std::stod(text, &read);
  } catch (const std::exception&) {  // no number, or one out of range: refused below
  }
  while (read < text.size() && text[read] == ' ') ++read;
  const auto unit = units.find(text.substr(read));
  require_input(unit != units.end() && number >= 0 && number * unit->second < 0x1p62,
                "{}: expected a size in bytes such as 500MB or 4GiB, found '{}'", where, text);
  return static_cast<int64_t>(number * unit->second);
}

template <class T>
YAML::Node flow_list(const std::vector<T>& values) {
  YAML::Node list(YAML::NodeType::Sequence);
  for (const T& value : values) list.push_back(value);
  list.SetStyle(YAML::EmitterStyle::Flow);
  return list;
}

/// Reads every item of a list; a single scalar stands for a list of one.
template <class T, class Read>
void read_list(const YAML::Node& node, const std::string& where, std::vector<T>& values, Read read) {
  values.clear();
  if (node.IsScalar()) {
    values.push_back(read(node, where));
    return;
  }
  require_list(node, where);
  for (size_t i = 0; i < node.size(); ++i) values.push_back(read(node[i], fmt::format("{}[{}]", where, i)));
}

YAML::Node real_node(double value) { return YAML::Node(fmt::format("{}", value)); }

}  // namespace

std::string yaml_text(const YAML::Node& node) {
  YAML::Emitter out;
  out << node;
  return out.c_str();
}

YAML::Node word_as_section(const YAML::Node& node, const std::string& key) {
  if (!node.IsScalar()) return node;
  YAML::Node section(YAML::NodeType::Map);
  section[key] = YAML::Clone(node);
  return section;
}

void require_list(const YAML::Node& node, const std::string& where) {
  require_input(node.IsSequence(), "{}: expected a list", where);
}

void OptionSet::add(const std::string& name, const std::string& type, const std::string& help,
                    std::function<void(const YAML::Node&, const std::string&)> read,
                    std::function<YAML::Node()> write) {
  Option option{{name, type, "", help}, std::move(read), std::move(write)};
  const auto value = option.write();
  YAML::Emitter emitter;
  emitter.SetSeqFormat(YAML::Flow);
  emitter.SetMapFormat(YAML::Flow);
  emitter << value;
  option.description.default_text = value.IsNull() ? "" : emitter.c_str();
  options_.push_back(std::move(option));
}

void OptionSet::real(const std::string& name, double& value, Range range, const std::string& help) {
  add(
      name, "number", help,
      [&value, range](const YAML::Node& node, const std::string& where) { value = read_real(node, range, where); },
      [&value] { return real_node(value); });
}

void OptionSet::integer(const std::string& name, int64_t& value, Range range, const std::string& help) {
  add(
      name, "integer", help,
      [&value, range](const YAML::Node& node, const std::string& where) { value = read_integer(node, range, where); },
      [&value] { return YAML::Node(value); });
}

void OptionSet::bytes(const std::string& name, int64_t& value, const std::string& help) {
  add(
      name, "size", help,
      [&value](const YAML::Node& node, const std::string& where) {
        value = read_bytes(scalar<std::string>(node, where, "a size"), where);
      },
      [&value] { return YAML::Node(value); });
}

void OptionSet::flag(const std::string& name, bool& value, const std::string& help) {
  add(
      name, "true or false", help,
      [&value](const YAML::Node& node, const std::string& where) {
        value = scalar<bool>(node, where, "true or false");
      },
      [&value] { return YAML::Node(value); });
}

void OptionSet::text(const std::string& name, std::string& value, const std::string& help) {
  add(
      name, "text", help,
      [&value](const YAML::Node& node, const std::string& where) {
        value = scalar<std::string>(node, where, "a text");
      },
      [&value] { return YAML::Node(value); });
}

void OptionSet::choice(const std::string& name, std::string& value, const std::vector<std::string>& choices,
                       const std::string& help) {
  std::string type;
  for (const auto& choice : choices) type += (type.empty() ? "" : " | ") + choice;
  add(
      name, type, help,
      [&value, choices](const YAML::Node& node, const std::string& where) {
        const auto text = scalar<std::string>(node, where, "a word");
        require_input(std::find(choices.begin(), choices.end(), text) != choices.end(), "{}: '{}' is not a choice{}",
                      where, text, suggestion(text, choices));
        value = text;
      },
      [&value] { return YAML::Node(value); });
}

void OptionSet::reals(const std::string& name, std::vector<double>& value, Range range, const std::string& help) {
  add(
      name, "list of numbers", help,
      [&value, range](const YAML::Node& node, const std::string& where) {
        read_list(node, where, value,
                  [range](const YAML::Node& item, const std::string& at) { return read_real(item, range, at); });
      },
      [&value] {
        YAML::Node list(YAML::NodeType::Sequence);
        for (const double item : value) list.push_back(real_node(item));
        list.SetStyle(YAML::EmitterStyle::Flow);
        return list;
      });
}

void OptionSet::integers(const std::string& name, std::vector<int64_t>& value, Range range, const std::string& help) {
  add(
      name, "list of integers", help,
      [&value, range](const YAML::Node& node, const std::string& where) {
        read_list(node, where, value,
                  [range](const YAML::Node& item, const std::string& at) { return read_integer(item, range, at); });
      },
      [&value] { return flow_list(value); });
}

void OptionSet::texts(const std::string& name, std::vector<std::string>& value, const std::string& help) {
  add(
      name, "list of texts", help,
      [&value](const YAML::Node& node, const std::string& where) {
        read_list(node, where, value, [](const YAML::Node& item, const std::string& at) {
          return scalar<std::string>(item, at, "a text");
        });
      },
      [&value] { return flow_list(value); });
}

void OptionSet::node(const std::string& name, YAML::Node& value, const std::string& help) {
  add(
      name, "anything", help, [&value](const YAML::Node& node, const std::string&) { value.reset(YAML::Clone(node)); },
      [&value] { return YAML::Clone(value); });
}

void OptionSet::read(const YAML::Node& source, const std::string& where) {
  if (!source.IsDefined() || source.IsNull()) return;
  require_input(source.IsMap(), "{}: expected a map of keys", where.empty() ? "the top of the file" : where);
  std::vector<std::string> names, seen;
  for (const auto& option : options_) names.push_back(option.description.name);
  for (const auto& entry : source) {
    const auto key = scalar<std::string>(entry.first, where.empty() ? "a key" : where, "a key");
    const auto found = std::find(names.begin(), names.end(), key);
    require_input(found != names.end(), "{}: unknown key{}", join(where, key), suggestion(key, names));
    require_input(std::find(seen.begin(), seen.end(), key) == seen.end(), "{}: the key is given twice",
                  join(where, key));
    seen.push_back(key);
    options_[static_cast<size_t>(found - names.begin())].read(entry.second, join(where, key));
  }
}

YAML::Node OptionSet::write() const {
  YAML::Node map(YAML::NodeType::Map);
  for (const auto& option : options_) map[option.description.name] = option.write();
  return map;
}

std::vector<OptionSet::Description> OptionSet::describe() const {
  std::vector<Description> descriptions;
  for (const auto& option : options_) descriptions.push_back(option.description);
  return descriptions;
}

}  // namespace amalgam
