#pragma once

#include <memory>
#include <utility>

#include "stats/reference.h"
#include "stats/statistics.h"

/// Statistics made by loops over examples, of whole numbers, so that sums in any order are equal to the bit.
namespace amalgam::reference {

constexpr int64_t kExamples = 10;

inline at::Tensor whole_numbers(std::vector<int64_t> shape, uint64_t seed) {
  return random_indices(9, std::move(shape), seed).to(at::kDouble) - 4;
}

/// Two layers [2, 3] that are fed the same tensor, "fc" with a bias and "twin" without.
inline StatisticsHeader small_header(int64_t begin, int64_t end) {
  Layer fc = linear(2, 3), twin = linear(2, 3, "twin");
  twin.input_of = "fc";
  twin.bias.clear();
  StatisticsHeader header;
  header.task = "left";
  header.loss = "cross_entropy";
  header.label_mode = "true";
  header.ranges = {{begin, end}};
  header.seed = 3;
  header.dtype = "float64";
  header.expert_digest = std::string(64, 'a');
  header.data_digest = std::string(64, 'd');
  header.kinds = {StatisticKind::kInputGram, StatisticKind::kOutputGram, StatisticKind::kSquaredGradient};
  header.layers = {.layers = {fc, twin}, .aliases = {}};
  header.parameter_shapes = {{"fc.weight", {2, 3}}, {"fc.bias", {2}}, {"twin.weight", {2, 3}}};
  return header;
}

/// Their sums over the examples [begin, end) of kExamples with two rows each.
inline NamedTensors small_sums(int64_t begin, int64_t end) {
  const auto of_range = [&](const at::Tensor& all) { return all.narrow(0, begin, end - begin); };
  const at::Tensor input = of_range(whole_numbers({kExamples, 2, 3}, 1));  // [N, T, in]
  NamedTensors sums = {{"fc/input_gram", naive_gram(input, {})}, {"fc/input_sum", naive_sum(input, {})}};
  for (const auto& [name, seed] : {std::pair{"fc", 2}, std::pair{"twin", 3}}) {
    const std::string layer = name;
    const at::Tensor gradient = of_range(whole_numbers({kExamples, 2, 2}, static_cast<uint64_t>(seed)));  // [N, T, out]
    sums[layer + "/rows"] = at::scalar_tensor(2 * (end - begin), at::kLong);
    sums[layer + "/output_gram"] = naive_gram(gradient, {});
    at::Tensor weight = at::zeros({2, 3}, at::kDouble), bias = at::zeros({2}, at::kDouble);
    for (int64_t n = 0; n < end - begin; ++n) {
      weight += gradient[n].t().mm(input[n]).square();
      bias += gradient[n].sum(0).square();
    }
    sums[layer + ".weight/squared_gradient"] = weight;
    if (layer == "fc") sums["fc.bias/squared_gradient"] = bias;
  }
  return sums;
}

inline Statistics make(StatisticsHeader header, NamedTensors sums) {
  return {std::move(header), std::make_shared<MemoryTensors>(std::move(sums))};
}

inline Statistics small_statistics(int64_t begin, int64_t end) {
  return make(small_header(begin, end), small_sums(begin, end));
}

}  // namespace amalgam::reference
