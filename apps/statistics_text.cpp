#include "apps/statistics_text.h"

#include <map>
#include <vector>

#include "apps/terminal.h"
#include "core/safetensors.h"

namespace amalgam {
namespace {

using Rows = std::vector<std::vector<std::string>>;

// The kind that a sum is collected for; of rows, which several kinds need, "rows".
std::string kind_of(const std::string& name) {
  const std::string sum = name.substr(name.rfind('/') + 1);
  if (sum.ends_with("input_sum")) return sum.substr(0, sum.size() - 3) + "gram";
  if (sum.starts_with("output_") && sum.ends_with("_sum")) return name_of(StatisticKind::kMoments);
  return sum.ends_with("rows") ? "rows" : sum;
}

std::string bytes_by_kind(const TensorSource& sums) {
  std::map<std::string, std::pair<int64_t, double>> kinds;  // sums and bytes
  for (const auto& [name, info] : sums.infos()) {
    auto& [count, bytes] = kinds[kind_of(name)];
    ++count;
    bytes += static_cast<double>(detail::stored_bytes(name, info));
  }
  Rows rows = {{"kind", "sums", "size"}};
  for (const auto& [kind, size] : kinds) rows.push_back({kind, std::to_string(size.first), format_bytes(size.second)});
  return format_table(rows);
}

std::string rows_of(const Statistics& statistics, const Layer& layer) {
  for (const KroneckerForm form : {KroneckerForm::kExpand, KroneckerForm::kReduce})
    if (statistics.has_input_gram(layer, form) || statistics.has_output_gram(layer, form))
      return std::to_string(statistics.rows(layer, form));
  return "";
}

std::string layer_table(const Statistics& statistics) {
  Rows rows = {{"layer", "kind", "out", "in", "rows", "input from"}};
  for (const auto& layer : statistics.header().layers.layers)
    rows.push_back({layer.name, name_of(layer.kind), std::to_string(layer.out), std::to_string(layer.in),
                    rows_of(statistics, layer), layer.input_of == layer.name ? "" : layer.input_of});
  return format_table(rows, 2);
}

}  // namespace

std::string describe_statistics(const Statistics& statistics) {
  const auto& header = statistics.header();
  std::string kinds;
  for (const auto kind : header.kinds) kinds += fmt::format("{}{}", kinds.empty() ? "" : ", ", name_of(kind));
  std::string text = fmt::format(
      "statistics of task '{}': {}\nexamples {}, {} in all; seed {}\nloss {}, labels {}{}, sums in {}\nexpert sha256 "
      "{}\ndata   sha256 {}\nsums   sha256 {}\n\n{}\n{}",
      header.task, kinds, describe(header.ranges), header.examples(), header.seed, header.loss, header.label_mode,
      header.temperature == 1.0 ? "" : fmt::format(" at temperature {}", header.temperature), header.dtype,
      header.expert_digest, header.data_digest, header.sums_digest, bytes_by_kind(statistics.sums()),
      layer_table(statistics));
  for (const auto& [name, block] : header.blocks)
    text += block == 1 ? fmt::format("diagonal only: {}\n", name) : fmt::format("in blocks of {}: {}\n", block, name);
  for (const auto& parameter : header.unobserved) text += fmt::format("not observed: {}\n", parameter);
  return text;
}

}  // namespace amalgam
