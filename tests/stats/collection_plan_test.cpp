#include "stats/collection_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "expect_error.h"
#include "stats/collector.h"
#include "stats/reference.h"

namespace amalgam {
namespace {

using namespace reference;
using testing::ElementsAre;
using testing::HasSubstr;

// query and key fed by one tensor, then a layer of its own; no biases.
LayerTable three_layers() {
  Layer query = linear(2, 4, "query"), key = linear(3, 4, "key"), out = linear(5, 6, "out");
  key.input_of = "query";
  for (Layer* layer : {&query, &key, &out}) layer->bias.clear();
  return {.layers = {query, key, out}, .aliases = {}};
}

const std::map<std::string, TensorInfo> kParameters = {
    {"query.weight", {at::kFloat, {2, 4}}}, {"key.weight", {at::kFloat, {3, 4}}}, {"out.weight", {at::kFloat, {5, 6}}}};
const std::set<StatisticKind> kKinds = {StatisticKind::kInputGram, StatisticKind::kOutputGram,
                                        StatisticKind::kSquaredGradient};

StatisticsHeader header(const CollectorOptions& options = {}) {
  return header_of_collection(three_layers(), kParameters, kKinds, options);
}

std::vector<std::string> names(const LayerTable& table) {
  std::vector<std::string> result;
  for (const Layer& layer : table.layers) result.push_back(layer.name);
  return result;
}

TEST(CollectionPlan, SaysWhatTheSumsOfEachLayerTake) {
  const CollectionPlan plan = plan_collection(header(), 0);
  ASSERT_EQ(plan.costs.size(), 3U);
  EXPECT_EQ(plan.costs[0].input_gram, 16 * 8);
  EXPECT_EQ(plan.costs[0].output_gram, 4 * 8);
  EXPECT_EQ(plan.costs[0].squared_gradient, 8 * 8);
  EXPECT_EQ(plan.costs[0].other, 4 * 8 + 8);  // input_sum, rows
  EXPECT_EQ(plan.costs[1].input_gram, 0);     // it shares the first one's
  EXPECT_EQ(plan.costs[2].total(), (36 + 25 + 30 + 6) * 8 + 8);
  EXPECT_EQ(plan.total(), plan.costs[0].total() + plan.costs[1].total() + plan.costs[2].total());
  EXPECT_EQ(plan.passes.size(), 1U);
}

TEST(CollectionPlan, CountsWhatACollectorHolds) {
  for (const char* dtype : {"float64", "float32"}) {
    CollectorOptions options;
    options.dtype = dtype;
    options.block_size = 2;
    int64_t bytes = 0;
    const auto table = three_layers();
    StatisticsCollector collector(table, kParameters, kKinds, options);
    for (const Layer& layer : table.layers) {
      const std::vector<LayerUse> uses = {use_of(random({3, 2, layer.in}, 1), random({3, 2, layer.out}, 2))};
      collector.observe({.layer = layer, .uses = uses});
    }
    collector.end_batch(3);
    const Statistics statistics = collector.finish({});
    for (const auto& [name, info] : statistics.sums().infos())
      bytes += static_cast<int64_t>(statistics.sums().get(name).nbytes());
    EXPECT_EQ(plan_collection(header(options), 0).total(), bytes);
  }
}

TEST(CollectionPlan, CutsTheLayersToPassesWithinTheBudgetAndKeepsSharersTogether) {
  const CollectionPlan whole = plan_collection(header(), 0);
  const int64_t shared = whole.costs[0].total() + whole.costs[1].total(), last = whole.costs[2].total();
  const CollectionPlan plan = plan_collection(header(), std::max(shared, last));
  ASSERT_EQ(plan.passes.size(), 2U);
  EXPECT_THAT(names(plan.passes[0]), ElementsAre("query", "key"));
  EXPECT_THAT(names(plan.passes[1]), ElementsAre("out"));
  EXPECT_THAT(plan.pass_bytes, ElementsAre(shared, last));
  EXPECT_EQ(plan_collection(header(), shared + last).passes.size(), 1U);
}

TEST(CollectionPlan, NamesTheLayerThatDoesNotFitOnItsOwn) {
  EXPECT_THAT(input_error_of([] { plan_collection(header(), 100); }), HasSubstr("layer 'query'"));
}

TEST(JoinedLayers, AreWhatOnePassWouldHaveMade) {
  const auto table = three_layers();
  const auto collect = [&](const LayerTable& layers) {
    StatisticsCollector collector(layers, kParameters, kKinds);
    const at::Tensor shared = random({3, 2, 4}, 9);
    for (const Layer& layer : layers.layers) {
      const at::Tensor input = layer.in == 4 ? shared : random({3, 2, 6}, 8);
      const std::vector<LayerUse> uses = {use_of(input, random({3, 2, layer.out}, 2))};
      collector.observe({.layer = layer, .uses = uses});
    }
    collector.end_batch(3);
    return collector.finish({});
  };
  const Statistics whole = collect(table);
  const CollectionPlan plan = plan_collection(header(), 1000);
  ASSERT_EQ(plan.passes.size(), 2U);
  const Statistics joined = join_layers(table, {collect(plan.passes[0]), collect(plan.passes[1])});
  ASSERT_EQ(joined.sums().infos(), whole.sums().infos());
  for (const auto& [name, info] : whole.sums().infos())
    EXPECT_TRUE(joined.sums().get(name).equal(whole.sums().get(name))) << name;
  EXPECT_EQ(to_json(joined.header().layers), to_json(whole.header().layers));
  EXPECT_EQ(joined.header().parameter_shapes, whole.header().parameter_shapes);
}

}  // namespace
}  // namespace amalgam
