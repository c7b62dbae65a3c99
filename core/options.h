#pragma once

#include <yaml-cpp/yaml.h>

#include <functional>
#include <limits>
#include <string>
#include <vector>

namespace amalgam {

/// Declares the keys of one section of a recipe, or the options of one method, once: name, default, range, help.
/// Reading, checking, writing out and documenting all come from this declaration.
///
/// A struct declares itself in `void declare(OptionSet&)`; the set holds references into it, so its values at that
/// moment are the defaults, and `read` writes into it:
/// ```
/// struct MatsOptions {
///   double damping = 1.0;
///   void declare(OptionSet& set) { set.real("damping", damping, {0, kInfinity}, "added to B, relative to its mean"); }
/// };
/// ```
class OptionSet {
 public:
  static constexpr double kInfinity = std::numeric_limits<double>::infinity();
  struct Range {
    double low = -kInfinity, high = kInfinity;  ///< both included
  };
  /// What documentation shows of one option.
  struct Description {
    std::string name, type, default_text, help;
  };

  void real(const std::string& name, double& value, Range range, const std::string& help);
  void integer(const std::string& name, int64_t& value, Range range, const std::string& help);
  /// A size in bytes: a number, or one with a unit ("500MB", "4GiB").
  void bytes(const std::string& name, int64_t& value, const std::string& help);
  void flag(const std::string& name, bool& value, const std::string& help);
  void text(const std::string& name, std::string& value, const std::string& help);
  void choice(const std::string& name, std::string& value, const std::vector<std::string>& choices,
              const std::string& help);
  void reals(const std::string& name, std::vector<double>& value, Range range, const std::string& help);
  void integers(const std::string& name, std::vector<int64_t>& value, Range range, const std::string& help);
  void texts(const std::string& name, std::vector<std::string>& value, const std::string& help);
  /// A part of the file that its owner reads later (a method, a transform): kept as it stands.
  void node(const std::string& name, YAML::Node& value, const std::string& help);
  /// A nested section of a struct with `declare`.
  template <class T>
  void section(const std::string& name, T& value, const std::string& help);
  /// A nested section for which a bare word may stand: the value of its key `key`.
  template <class T>
  void section_or_word(const std::string& name, T& value, const std::string& key, const std::string& help);
  /// A list of sections.
  template <class T>
  void sections(const std::string& name, std::vector<T>& value, const std::string& help);

  /// Reads a map into the declared values. A missing key keeps its default.
  /// @param where path of `source` for messages: "merge.mats"; empty at the top
  /// @throws InputError for an unknown key (naming the nearest), a wrong type, a value out of range
  void read(const YAML::Node& source, const std::string& where);
  /// Every value as it stands, in the order of declaration.
  YAML::Node write() const;

  std::vector<Description> describe() const;

 private:
  struct Option {
    Description description;
    std::function<void(const YAML::Node&, const std::string& where)> read;
    std::function<YAML::Node()> write;
  };
  void add(const std::string& name, const std::string& type, const std::string& help,
           std::function<void(const YAML::Node&, const std::string&)> read, std::function<YAML::Node()> write);

  std::vector<Option> options_;
};

/// Reads a struct with `declare` from a map.
template <class T>
void read_options(T& value, const YAML::Node& source, const std::string& where) {
  OptionSet set;
  value.declare(set);
  set.read(source, where);
}

template <class T>
YAML::Node write_options(T value) {
  OptionSet set;
  value.declare(set);
  return set.write();
}

template <class T>
void OptionSet::section(const std::string& name, T& value, const std::string& help) {
  add(
      name, "section", help,
      [&value](const YAML::Node& node, const std::string& where) { read_options(value, node, where); },
      [&value] { return write_options(value); });
}

/// The map {`key`: word} for a bare word; every other node as it stands.
YAML::Node word_as_section(const YAML::Node& node, const std::string& key);

template <class T>
void OptionSet::section_or_word(const std::string& name, T& value, const std::string& key, const std::string& help) {
  add(
      name, "word or section", help,
      [&value, key](const YAML::Node& node, const std::string& where) {
        read_options(value, word_as_section(node, key), where);
      },
      [&value] { return write_options(value); });
}

/// The node as YAML, without a line break at its end.
std::string yaml_text(const YAML::Node& node);

/// @throws InputError unless `node` is a list
void require_list(const YAML::Node& node, const std::string& where);

template <class T>
void OptionSet::sections(const std::string& name, std::vector<T>& value, const std::string& help) {
  add(
      name, "list of sections", help,
      [&value](const YAML::Node& node, const std::string& where) {
        require_list(node, where);
        value.clear();
        for (size_t i = 0; i < node.size(); ++i)
          read_options(value.emplace_back(), node[i], where + "[" + std::to_string(i) + "]");
      },
      [&value] {
        YAML::Node list(YAML::NodeType::Sequence);
        for (const T& item : value) list.push_back(write_options(item));
        return list;
      });
}

}  // namespace amalgam
