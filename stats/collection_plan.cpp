#include "stats/collection_plan.h"

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "stats/sum_table.h"

namespace amalgam {
namespace {

int64_t bytes_of(const TensorInfo& info) {
  return c10::multiply_integers(info.shape) * static_cast<int64_t>(c10::elementSize(info.dtype));
}

std::vector<LayerCost> costs_of(const StatisticsHeader& header) {
  std::map<std::string, LayerCost> by_layer;
  for (const auto& [name, info] : sum_table(header)) {
    LayerCost& cost = by_layer[info.layer];
    const std::string sum = name.substr(name.rfind('/') + 1);
    int64_t& column = sum.ends_with("input_gram")    ? cost.input_gram
                      : sum.ends_with("output_gram") ? cost.output_gram
                      : sum == "squared_gradient"    ? cost.squared_gradient
                      : sum == "gradient_gram"       ? cost.gradient_gram
                                                     : cost.other;
    column += bytes_of(info.tensor);
  }
  std::vector<LayerCost> costs;
  for (const Layer& layer : header.layers.layers) {
    costs.push_back(std::exchange(by_layer[layer.name], {}));  // a tied pair has one name: the first has it all
    costs.back().layer = layer.name;
  }
  return costs;
}

bool share_a_sum(const LayerTable& table, const Layer& a, const Layer& b) {
  const auto same = [](const std::string& x, const std::string& y) { return !x.empty() && x == y; };
  return a.name == b.name || same(a.weight, b.weight) || same(a.bias, b.bias) ||
         input_gram_owner(table, a) == input_gram_owner(table, b);
}

// Layers that share a sum, directly or by way of others, have one number: the position of the first of them.
std::vector<size_t> units_of(const LayerTable& table) {
  std::vector<size_t> unit(table.layers.size());
  std::iota(unit.begin(), unit.end(), size_t{0});
  for (size_t i = 0; i < unit.size(); ++i)
    for (size_t j = 0; j < i; ++j) {
      if (unit[i] == unit[j] || !share_a_sum(table, table.layers[i], table.layers[j])) continue;
      const size_t first = std::min(unit[i], unit[j]), other = std::max(unit[i], unit[j]);
      std::replace(unit.begin(), unit.end(), other, first);
    }
  return unit;
}

// The sums of several files as those of one.
class JoinedSums final : public TensorSource {
 public:
  explicit JoinedSums(const std::vector<Statistics>& parts) : parts_(parts) {
    for (const Statistics& part : parts_)
      for (const auto& [name, info] : part.sums().infos()) {
        infos_.emplace(name, info);
        source_.emplace(name, &part.sums());
      }
  }
  const std::map<std::string, TensorInfo>& infos() const override { return infos_; }
  at::Tensor get(const std::string& name) const override {
    const auto found = source_.find(name);
    require_input(found != source_.end(), "there is no sum '{}'", name);
    return found->second->get(name);
  }

 private:
  std::vector<Statistics> parts_;
  std::map<std::string, TensorInfo> infos_;
  std::map<std::string, const TensorSource*> source_;
};

}  // namespace

int64_t CollectionPlan::total() const { return std::accumulate(pass_bytes.begin(), pass_bytes.end(), int64_t{0}); }

int64_t CollectionPlan::largest_pass() const {
  return pass_bytes.empty() ? 0 : *std::max_element(pass_bytes.begin(), pass_bytes.end());
}

CollectionPlan plan_collection(const StatisticsHeader& header, int64_t budget) {
  CollectionPlan plan;
  plan.costs = costs_of(header);
  const auto& layers = header.layers.layers;
  const std::vector<size_t> units = units_of(header.layers);
  std::vector<int64_t> unit_bytes(layers.size(), 0);
  for (size_t i = 0; i < layers.size(); ++i) unit_bytes[units[i]] += plan.costs[i].total();

  std::vector<size_t> pass_of(layers.size(), 0);  // by unit
  for (size_t unit = 0; unit < layers.size(); ++unit) {
    if (units[unit] != unit) continue;
    require_input(
        budget == 0 || unit_bytes[unit] <= budget,
        "the statistics of layer '{}' (and of those it shares sums with) take {} bytes, and the budget is {}; "
        "give a larger `statistics.memory`, or keep its Gram matrices in blocks (`block_size`, `diagonal`), and those "
        "of "
        "long vectors not at all (`vector_limit`)",
        layers[unit].name, unit_bytes[unit], budget);
    if (plan.pass_bytes.empty() || (budget > 0 && plan.pass_bytes.back() + unit_bytes[unit] > budget))
      plan.pass_bytes.push_back(0);
    plan.pass_bytes.back() += unit_bytes[unit];
    pass_of[unit] = plan.pass_bytes.size() - 1;
  }
  plan.passes.resize(plan.pass_bytes.size());
  for (size_t i = 0; i < layers.size(); ++i) plan.passes[pass_of[units[i]]].layers.push_back(layers[i]);
  for (LayerTable& pass : plan.passes) pass.aliases = header.layers.aliases;
  return plan;
}

Statistics join_layers(const LayerTable& layers, const std::vector<Statistics>& parts) {
  TORCH_CHECK(!parts.empty(), "there is nothing to join");
  StatisticsHeader header = parts.front().header();
  header.layers = layers;
  for (const Statistics& part : parts) {
    const StatisticsHeader& own = part.header();
    TORCH_CHECK(own.ranges == header.ranges && own.expert_digest == header.expert_digest,
                "the parts are not of the same examples and expert");
    header.parameter_shapes.insert(own.parameter_shapes.begin(), own.parameter_shapes.end());
    header.blocks.insert(own.blocks.begin(), own.blocks.end());
    for (const std::string& entry : own.unobserved)
      if (std::find(header.unobserved.begin(), header.unobserved.end(), entry) == header.unobserved.end())
        header.unobserved.push_back(entry);
  }
  return {std::move(header), std::make_shared<const JoinedSums>(parts)};
}

}  // namespace amalgam
