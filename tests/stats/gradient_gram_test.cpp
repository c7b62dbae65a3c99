// Gradient Gram matrices of vectors on their way: collected, saved, added, verified.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/digest.h"
#include "expect_error.h"
#include "stats/collection_plan.h"
#include "stats/collector.h"
#include "stats/combine.h"
#include "stats/compare.h"
#include "stats/reference.h"
#include "stats/verify.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

using namespace reference;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const std::set<StatisticKind> kKinds = {StatisticKind::kOutputGram, StatisticKind::kSquaredGradient,
                                        StatisticKind::kGradientGram};
constexpr int64_t kSeen = 8;  // examples

std::map<std::string, TensorInfo> shapes(const std::map<std::string, std::vector<int64_t>>& parameters) {
  std::map<std::string, TensorInfo> infos;
  for (const auto& [name, shape] : parameters) infos[name] = {at::kFloat, shape};
  return infos;
}

// Σ_n ∇_n ∇_nᵀ of gradients [N, n], one example at a time.
at::Tensor outer_products(const at::Tensor& gradients) { return naive_gram(gradients.unsqueeze(1), {}); }

// A linear layer of one row an example, a norm over three rows, a class token.
struct Model {
  LayerTable table{.layers = {linear(3, 4), norm(LayerKind::kLayerNorm, 5), bias(6, "token")}, .aliases = {}};
  std::map<std::string, TensorInfo> parameters =
      shapes({{"fc.weight", {3, 4}}, {"fc.bias", {3}}, {"norm.weight", {5}}, {"norm.bias", {5}}, {"token", {1, 1, 6}}});
  LayerUse fc = use_of(random({kSeen, 1, 4}, 1), random({kSeen, 1, 3}, 2));
  LayerUse ln = use_of(random({kSeen, 3, 5}, 3), random({kSeen, 3, 5}, 4));
  LayerUse token = use_of({}, random({kSeen, 1, 6}, 5));

  void show(StatisticsCollector& collector, int64_t begin, int64_t count) const {
    const LayerUse* uses[] = {&fc, &ln, &token};
    for (size_t i = 0; i < 3; ++i) {
      const auto part = [&](const at::Tensor& x) { return x.defined() ? x.narrow(0, begin, count) : x; };
      const std::vector<LayerUse> shown = {use_of(part(uses[i]->input), part(uses[i]->output_gradient))};
      collector.observe({.layer = table.layers[i], .uses = shown});
    }
    collector.end_batch(count);
  }
  Statistics collected(int64_t begin, int64_t end, int64_t batch, const std::set<StatisticKind>& kinds = kKinds) const {
    StatisticsCollector collector(table, parameters, kinds);
    for (int64_t at = begin; at < end; at += batch) show(collector, at, std::min(batch, end - at));
    StatisticsHeader header;
    header.task = "left";
    header.ranges = {{begin, end}};
    return collector.finish(header);
  }
};

TEST(GradientGram, IsTheSumOverExamplesOfOuterProductsOfTheirGradients) {
  const Model model;
  for (const int64_t batch : {1, 3, 8}) {
    const Statistics statistics = model.collected(0, kSeen, batch);
    const auto expect = [&](const std::string& name, const at::Tensor& gradients) {
      SCOPED_TRACE(name);
      expect_close(statistics.sums().get(name + "/gradient_gram"), outer_products(gradients), 64 * kFloat64Epsilon);
      expect_close(statistics.gradient_gram(name), outer_products(gradients) / kSeen, 64 * kFloat64Epsilon);
    };
    expect("norm.weight", (model.ln.input * model.ln.output_gradient).sum(1));
    expect("norm.bias", model.ln.output_gradient.sum(1));
    expect("fc.bias", model.fc.output_gradient.sum(1));
    expect("token", model.token.output_gradient.sum(1));
    EXPECT_FALSE(statistics.has_gradient_gram("fc.weight"));
  }
}

TEST(GradientGram, HasTheSquaredGradientOnItsDiagonal) {
  const Statistics statistics = Model().collected(0, kSeen, 3);
  for (const std::string name : {"fc.bias", "norm.weight", "norm.bias", "token"})
    expect_close(statistics.gradient_gram(name).diagonal(), statistics.squared_gradient(name).flatten(),
                 16 * kFloat64Epsilon);
}

TEST(GradientGram, OfABiasWithOneRowAnExampleIsTheOutputGram) {
  const Model model;
  const Statistics statistics = model.collected(0, kSeen, 3);
  expect_close(statistics.gradient_gram("fc.bias"), statistics.output_gram(model.table.layers[0])[0],
               16 * kFloat64Epsilon);
}

TEST(GradientGram, ComesAloneWithGradientsAndNothingElse) {
  const Model model;
  const StatisticsCollector collector(model.table, model.parameters, {StatisticKind::kGradientGram});
  EXPECT_TRUE(collector.needs().gradients);
  EXPECT_FALSE(collector.needs().outputs);
  const Statistics statistics = model.collected(0, kSeen, 3, {StatisticKind::kGradientGram});
  EXPECT_EQ(statistics.sums().infos().size(), 4U);
}

TEST(GradientGram, LeavesOutVectorsAboveTheLimit) {
  const Model model;
  CollectorOptions options;
  options.vector_limit = 5;
  StatisticsCollector collector(model.table, model.parameters, {StatisticKind::kGradientGram}, options);
  model.show(collector, 0, kSeen);
  StatisticsHeader header;
  header.task = "left";
  const Statistics statistics = collector.finish(header);
  EXPECT_TRUE(statistics.has_gradient_gram("norm.weight"));
  EXPECT_FALSE(statistics.has_gradient_gram("token"));
  const TemporaryFolder folder;
  statistics.save(folder / "left.safetensors");
  const Statistics loaded = Statistics::load(folder / "left.safetensors");
  EXPECT_EQ(loaded.header().vector_limit, 5);
  EXPECT_FALSE(loaded.has_gradient_gram("token"));
}

TEST(GradientGram, IsInThePlan) {
  const Model model;
  const auto header = header_of_collection(model.table, model.parameters, {StatisticKind::kGradientGram}, {});
  const CollectionPlan plan = plan_collection(header, 0);
  EXPECT_EQ(plan.costs[0].gradient_gram, 9 * 8);
  EXPECT_EQ(plan.costs[1].gradient_gram, 2 * 25 * 8);
  EXPECT_EQ(plan.total(), (9 + 50 + 36) * 8);
  const CollectionPlan cut = plan_collection(header, 400);
  EXPECT_EQ(cut.passes.size(), 3U);
  EXPECT_THAT(input_error_of([&] { plan_collection(header, 300); }), HasSubstr("vector_limit"));
}

// Two layers whose biases are slices of one vector, as query and key in one packed projection.
struct Packed {
  Layer query = linear(2, 3, "packed[0:2]"), key = linear(2, 3, "packed[2:4]");
  std::map<std::string, TensorInfo> parameters = shapes({{"packed.weight", {4, 3}}, {"packed.bias", {4}}});
  LayerUse query_use = use_of(random({kSeen, 2, 3}, 1), random({kSeen, 2, 2}, 2)),
           key_use = use_of(query_use.input, random({kSeen, 2, 2}, 3));
  Packed() {
    query.weight = key.weight = "packed.weight";
    query.bias = key.bias = "packed.bias";
    key.row_begin = 2;
    key.row_end = 4;
  }
  StatisticsCollector collector() const {
    return {{.layers = {query, key}, .aliases = {}}, parameters, {StatisticKind::kGradientGram}};
  }
};

TEST(GradientGram, OfAVectorOfSeveralLayersIsWhole) {
  const Packed packed;
  StatisticsCollector collector = packed.collector();
  for (const bool repeated : {false, true}) {  // a further pass is a further set of gradients
    collector.observe({.layer = packed.query, .uses = {packed.query_use}, .repeated = repeated});
    collector.observe({.layer = packed.key, .uses = {packed.key_use}, .repeated = repeated});
  }
  collector.end_batch(kSeen);
  const at::Tensor gradients =
      at::cat({packed.query_use.output_gradient.sum(1), packed.key_use.output_gradient.sum(1)}, 1);
  expect_close(collector.finish({}).sums().get("packed.bias/gradient_gram"), 2 * outer_products(gradients),
               64 * kFloat64Epsilon);
}

TEST(GradientGram, DoesNotMixThePassesOfSlicesThatALossReachesInTurn) {
  const Packed packed;
  StatisticsCollector collector = packed.collector();
  const LayerUse query_lost = use_of(packed.query_use.input), key_lost = use_of(packed.key_use.input);
  collector.observe({.layer = packed.query, .uses = {packed.query_use}});
  collector.observe({.layer = packed.key, .uses = {key_lost}});
  collector.observe({.layer = packed.query, .uses = {query_lost}, .repeated = true});
  collector.observe({.layer = packed.key, .uses = {packed.key_use}, .repeated = true});
  collector.end_batch(kSeen);
  const at::Tensor expected = at::block_diag(
      {outer_products(packed.query_use.output_gradient.sum(1)), outer_products(packed.key_use.output_gradient.sum(1))});
  expect_close(collector.finish({}).sums().get("packed.bias/gradient_gram"), expected, 64 * kFloat64Epsilon);
}

TEST(GradientGram, OfSomeSlicesOnlyIsDropped) {
  const Packed packed;
  StatisticsCollector collector = packed.collector();
  collector.observe({.layer = packed.query, .uses = {packed.query_use}});
  collector.end_batch(kSeen);
  const Statistics statistics = collector.finish({});
  EXPECT_FALSE(statistics.has_gradient_gram("packed.bias"));
  EXPECT_THAT(statistics.header().unobserved, testing::Contains(HasSubstr("packed.bias: its layer 'packed[2:4]'")));
}

TEST(GradientGram, OfShardsAddsUpToThatOfAll) {
  const Model model;
  const Statistics all = model.collected(0, kSeen, 4);
  const Statistics sum = add_statistics({{"a", model.collected(0, 4, 4)}, {"b", model.collected(4, kSeen, 4)}});
  const StatisticsDifference difference = compare_statistics(sum, all);
  EXPECT_TRUE(difference.within(16 * kFloat64Epsilon));
  EXPECT_TRUE(sum.has_gradient_gram("norm.weight"));
}

TEST(GradientGram, OfVectorsUnderAnotherLimitIsNotAdded) {
  const Model model;
  Statistics other = model.collected(4, kSeen, 4);
  StatisticsHeader header = other.header();
  header.vector_limit = 7;
  NamedTensors sums;
  for (const auto& [name, info] : other.sums().infos()) sums[name] = other.sums().get(name);
  const Statistics changed(header, std::make_shared<MemoryTensors>(sums));
  EXPECT_THAT(input_error_of([&] {
                add_statistics({{"a", model.collected(0, 4, 4)}, {"b", changed}});
              }),
              HasSubstr("'vector_limit'"));
}

TEST(GradientGram, MissingInOneShardOfSeveralLayersIsLeftOut) {
  const Packed packed;
  const auto shard = [&](int64_t begin, bool whole) {
    StatisticsCollector collector = packed.collector();
    collector.observe({.layer = packed.query, .uses = {packed.query_use}});
    if (whole) collector.observe({.layer = packed.key, .uses = {packed.key_use}});
    collector.end_batch(kSeen);
    StatisticsHeader header;
    header.ranges = {{begin, begin + kSeen}};
    return StatisticsShard{"f", collector.finish(header)};
  };
  EXPECT_FALSE(add_statistics({shard(0, true), shard(8, false)}).has_gradient_gram("packed.bias"));
  EXPECT_TRUE(add_statistics({shard(0, true), shard(8, true)}).has_gradient_gram("packed.bias"));
}

TEST(GradientGram, IsSavedAndReadBackToTheBit) {
  const Model model;
  const TemporaryFolder folder;
  const Statistics statistics = model.collected(0, kSeen, 3);
  statistics.save(folder / "left.safetensors");
  const Statistics loaded = Statistics::load(folder / "left.safetensors");
  EXPECT_TRUE(loaded.gradient_gram("norm.weight").equal(statistics.gradient_gram("norm.weight")));
  EXPECT_THAT(verify_statistics(loaded), IsEmpty());
}

TEST(GradientGram, LeavesFilesOfOtherKindsAsTheyWere) {
  const Model model;
  const TemporaryFolder folder;
  model.collected(0, kSeen, 3, {StatisticKind::kSquaredGradient}).save(folder / "left.safetensors");
  EXPECT_FALSE(open_safetensors(folder / "left.safetensors")->metadata().contains("vector_limit"));
}

TEST(GradientGram, ThatCannotBeIsFound) {
  const Statistics statistics = Model().collected(0, kSeen, 3);
  const auto findings = [&](const std::function<void(at::Tensor&)>& change) {
    NamedTensors sums;
    for (const auto& [name, info] : statistics.sums().infos()) sums[name] = statistics.sums().get(name).clone();
    change(sums.at("norm.weight/gradient_gram"));
    StatisticsHeader header = statistics.header();
    header.sums_digest = digest_of(MemoryTensors(sums));
    return verify_statistics({header, std::make_shared<MemoryTensors>(sums)});
  };
  EXPECT_THAT(findings([](at::Tensor&) {}), IsEmpty());
  EXPECT_THAT(findings([](at::Tensor& gram) { gram[0][1] += 1; }),
              ElementsAre(testing::AllOf(HasSubstr("'norm.weight/gradient_gram'"), HasSubstr("not symmetric"))));
  EXPECT_THAT(findings([](at::Tensor& gram) { gram[2][2] *= 1.5; }),
              ElementsAre(testing::AllOf(HasSubstr("its diagonal holds"), HasSubstr("norm.weight/squared_gradient"))));
  EXPECT_THAT(findings([](at::Tensor& gram) { gram[0][1] = gram[1][0] = 1e6; }),
              ElementsAre(HasSubstr("is more than its diagonal")));
}

}  // namespace
}  // namespace amalgam
