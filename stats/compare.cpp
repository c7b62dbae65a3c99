#include "stats/compare.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"

namespace amalgam {
namespace {

constexpr size_t kShownDigits = 12;

std::string shortened(const std::string& digest) {
  return digest.size() > kShownDigits ? digest.substr(0, kShownDigits) + "…" : digest;
}

std::string words_of(const std::set<StatisticKind>& kinds) {
  std::vector<std::string> words;
  for (const StatisticKind kind : kinds) words.emplace_back(name_of(kind));
  return fmt::format("{}", fmt::join(words, ", "));
}

std::string text_of(int64_t block) { return fmt::format("blocks of {}", block); }
std::string text_of(const std::vector<int64_t>& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

// The first entry that two tables have different values of.
template <class Value>
FieldDifference first_difference(const std::string& field, const std::map<std::string, Value>& a,
                                 const std::map<std::string, Value>& b) {
  const auto show = [](const std::map<std::string, Value>& table, const std::string& key) {
    const auto found = table.find(key);
    return found == table.end() ? fmt::format("no '{}'", key) : fmt::format("'{}' {}", key, text_of(found->second));
  };
  std::map<std::string, Value> all = a;
  all.insert(b.begin(), b.end());
  for (const auto& [key, value] : all)
    if (show(a, key) != show(b, key)) return {field, show(a, key), show(b, key)};
  return {field, "", ""};
}

// The first layer that two tables have differently, with the field that tells; else the tied names.
FieldDifference first_difference(const LayerTable& a, const LayerTable& b) {
  const auto left = nlohmann::json::parse(to_json(a)), right = nlohmann::json::parse(to_json(b));
  const auto &layers_a = left.at("layers"), &layers_b = right.at("layers");
  for (size_t i = 0; i < std::min(layers_a.size(), layers_b.size()); ++i)
    for (const auto& [key, value] : layers_a[i].items()) {
      const auto& other = layers_b[i].at(key);
      if (value == other) continue;
      return {"layers", fmt::format("'{}' with {} {}", a.layers[i].name, key, value.dump()),
              fmt::format("'{}' with {} {}", b.layers[i].name, key, other.dump())};
    }
  if (layers_a.size() != layers_b.size())
    return {"layers", fmt::format("{} layers", layers_a.size()), fmt::format("{} layers", layers_b.size())};
  return {"layers", left.at("aliases").dump(), right.at("aliases").dump()};
}

SumDifference difference_of(const std::string& name, const Statistics& a, const Statistics& b) {
  SumDifference result;
  result.name = name;
  for (const auto& [of, word] : {std::pair{&a, "the first"}, std::pair{&b, "the second"}})
    if (!of->sums().contains(name)) result.refusal = fmt::format("{} lacks it", word);
  if (!result.refusal.empty()) return result;
  const TensorInfo &left = a.sums().infos().at(name), &right = b.sums().infos().at(name);
  if (left.shape != right.shape) {
    result.refusal = fmt::format("{} and {}", describe(left), describe(right));
    return result;
  }
  const at::Tensor expected = b.sums().get(name).to(at::kDouble);
  const at::Tensor difference = a.sums().get(name).to(at::kDouble) - expected;
  if (difference.numel() == 0) return result;
  result.largest = difference.abs().max().item<double>();
  if (result.largest != 0) result.relative = difference.norm().item<double>() / expected.norm().item<double>();
  return result;
}

}  // namespace

bool SumDifference::within(double tolerance) const { return refusal.empty() && relative <= tolerance; }

bool StatisticsDifference::within(double tolerance) const {
  return fields.empty() &&
         std::all_of(sums.begin(), sums.end(), [&](const SumDifference& sum) { return sum.within(tolerance); });
}

std::vector<FieldDifference> header_differences(const StatisticsHeader& a, const StatisticsHeader& b) {
  std::vector<FieldDifference> fields;
  const auto add = [&](const char* field, const std::string& left, const std::string& right) {
    if (left != right) fields.push_back({field, left, right});
  };
  const auto add_digest = [&](const char* field, const std::string& left, const std::string& right) {
    if (left != right) fields.push_back({field, shortened(left), shortened(right)});
  };
  add("task", a.task, b.task);
  add("loss", a.loss, b.loss);
  add("label_mode", a.label_mode, b.label_mode);
  add("temperature", fmt::format("{}", a.temperature), fmt::format("{}", b.temperature));
  add("ranges", describe(a.ranges), describe(b.ranges));
  add("seed", std::to_string(a.seed), std::to_string(b.seed));
  add("dtype", a.dtype, b.dtype);
  add("products", a.products, b.products);
  add_digest("expert_digest", a.expert_digest, b.expert_digest);
  add_digest("data_digest", a.data_digest, b.data_digest);
  add("kinds", words_of(a.kinds), words_of(b.kinds));
  if (to_json(a.layers) != to_json(b.layers)) fields.push_back(first_difference(a.layers, b.layers));
  if (a.parameter_shapes != b.parameter_shapes)
    fields.push_back(first_difference("parameter_shapes", a.parameter_shapes, b.parameter_shapes));
  add("unobserved", fmt::format("{}", fmt::join(a.unobserved, "; ")), fmt::format("{}", fmt::join(b.unobserved, "; ")));
  add("vector_limit", std::to_string(a.vector_limit), std::to_string(b.vector_limit));
  if (a.blocks != b.blocks) fields.push_back(first_difference("blocks", a.blocks, b.blocks));
  return fields;
}

StatisticsDifference compare_statistics(const Statistics& a, const Statistics& b) {
  StatisticsDifference result;
  result.fields = header_differences(a.header(), b.header());
  std::set<std::string> names;
  for (const auto& [name, info] : a.sums().infos()) names.insert(name);
  for (const auto& [name, info] : b.sums().infos()) names.insert(name);
  for (const std::string& name : names) result.sums.push_back(difference_of(name, a, b));
  return result;
}

}  // namespace amalgam
