#include "stats/collector.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "core/error.h"
#include "expect_error.h"
#include "stats/gram.h"
#include "stats/reference.h"
#include "stats/squared_gradient.h"

namespace amalgam {
namespace {

using namespace reference;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const std::set<StatisticKind> kAllKinds = {StatisticKind::kInputGram, StatisticKind::kOutputGram,
                                           StatisticKind::kSquaredGradient, StatisticKind::kMoments};

// What eight examples show of a layer.
struct Seen {
  Layer layer;
  std::vector<LayerUse> uses;
};

LayerTable table_of(const std::vector<Seen>& seen) {
  LayerTable table;
  for (const Seen& item : seen) table.layers.push_back(item.layer);
  return table;
}

std::map<std::string, TensorInfo> shapes(const std::map<std::string, std::vector<int64_t>>& parameters) {
  std::map<std::string, TensorInfo> infos;
  for (const auto& [name, shape] : parameters) infos[name] = {at::kFloat, shape};
  return infos;
}

// One layer of every kind: masked linear used twice, grouped convolution, embedding, both norms, an added parameter.
std::vector<Seen> every_kind() {
  const int64_t n = 8;
  const at::Tensor mask = random({n, 3}, 1).gt(-0.5);
  const Layer conv = convolution(4, 6, 2, {{3, 2}, {2, 1}, {1, 0}, {1, 2}});  // T = 16 on [6, 7, 6]
  return {
      {linear(5, 4),
       {use_of(random({n, 3, 4}, 2), random({n, 3, 5}, 3), mask, random({n, 3, 5}, 4)),
        use_of(random({n, 2, 4}, 5), random({n, 2, 5}, 6), {}, random({n, 2, 5}, 7))}},
      {conv, {use_of(random({n, 6, 7, 6}, 8), random({n, 16, 4}, 9), {}, random({n, 16, 4}, 10))}},
      {embedding(6, 3), {use_of(random_indices(6, {n, 4}, 11), random({n, 4, 3}, 12), {}, random({n, 4, 3}, 13))}},
      {norm(LayerKind::kLayerNorm, 3, "ln"),
       {use_of(random({n, 4, 3}, 14), random({n, 4, 3}, 15), {}, random({n, 4, 3}, 16))}},
      {norm(LayerKind::kBatchNorm, 4, "bn"),
       {use_of(random({n, 9, 4}, 17), random({n, 9, 4}, 18), {}, random({n, 9, 4}, 19))}},
      {bias(6), {use_of({}, random({n, 1, 6}, 20))}},
  };
}

const std::map<std::string, TensorInfo> kEveryShape = shapes({{"fc.weight", {5, 4}},
                                                              {"fc.bias", {5}},
                                                              {"conv.weight", {4, 3, 3, 2}},
                                                              {"conv.bias", {4}},
                                                              {"embedding.weight", {6, 3}},
                                                              {"ln.weight", {3}},
                                                              {"ln.bias", {3}},
                                                              {"bn.weight", {4}},
                                                              {"bn.bias", {4}},
                                                              {"position", {1, 2, 3}}});

LayerUse as(at::ScalarType dtype, const LayerUse& use) {
  const auto cast = [&](const at::Tensor& x) { return x.defined() && x.is_floating_point() ? x.to(dtype) : x; };
  return {cast(use.input), cast(use.output), cast(use.output_gradient), use.mask};
}

LayerUse part_of(const LayerUse& use, int64_t begin, int64_t count) {
  const auto part = [&](const at::Tensor& x) { return x.defined() ? x.slice(0, begin, begin + count) : x; };
  return {part(use.input), part(use.output), part(use.output_gradient), part(use.mask)};
}

// Shows the eight examples in batches.
void show(StatisticsCollector& collector, const std::vector<Seen>& seen, int64_t batch,
          at::ScalarType dtype = at::kDouble) {
  for (int64_t begin = 0; begin < 8; begin += batch) {
    const int64_t count = std::min(batch, 8 - begin);
    for (const Seen& item : seen) {
      std::vector<LayerUse> uses;
      for (const LayerUse& use : item.uses) uses.push_back(as(dtype, part_of(use, begin, count)));
      collector.observe({.layer = item.layer, .uses = uses});
    }
    collector.end_batch(count);
  }
}

at::Tensor sum_of(const Statistics& statistics, const std::string& name) { return statistics.sums().get(name); }

Statistics collect(const std::vector<Seen>& seen, const std::map<std::string, TensorInfo>& parameters, int64_t batch,
                   const CollectorOptions& options = {}, at::ScalarType dtype = at::kDouble) {
  StatisticsCollector collector(table_of(seen), parameters, kAllKinds, options);
  show(collector, seen, batch, dtype);
  return collector.finish({});
}

TEST(StatisticsCollector, AddsUpWhatOneExampleAtATimeGives) {
  const auto seen = every_kind();
  const Statistics statistics = collect(seen, kEveryShape, 8);
  const auto& fc = seen[0].uses;
  const double bound = 64 * kFloat64Epsilon;
  expect_close(sum_of(statistics, "fc/input_gram"), naive_gram(fc[0].input, fc[0].mask) + naive_gram(fc[1].input, {}),
               bound);
  expect_close(sum_of(statistics, "fc/input_sum"), naive_sum(fc[0].input, fc[0].mask) + naive_sum(fc[1].input, {}),
               bound);
  expect_close(sum_of(statistics, "fc/output_gram"),
               naive_gram(fc[0].output_gradient, fc[0].mask) + naive_gram(fc[1].output_gradient, {}), bound);
  expect_close(sum_of(statistics, "fc/output_sum"), naive_sum(fc[0].output, fc[0].mask) + naive_sum(fc[1].output, {}),
               bound);
  const auto squares = [](const LayerUse& use) { return naive_sum(use.output * use.output, use.mask); };
  expect_close(sum_of(statistics, "fc/output_square_sum"), squares(fc[0]) + squares(fc[1]), bound);
  EXPECT_EQ(sum_of(statistics, "fc/rows").item<int64_t>(), fc[0].mask.sum().item<int64_t>() + 16);
  const auto loss = [&](const at::Tensor& weight, int64_t n) {
    return (at::linear(fc[0].input[n], weight) * fc[0].output_gradient[n]).sum() +
           (at::linear(fc[1].input[n], weight) * fc[1].output_gradient[n]).sum();
  };
  expect_close(sum_of(statistics, "fc.weight/squared_gradient"),
               squared_by_autograd(at::zeros({5, 4}, at::kDouble), 8, loss), bound);
  expect_close(sum_of(statistics, "ln/output_sum"), naive_sum(seen[3].uses[0].output, {}), bound);
  expect_close(sum_of(statistics, "position/squared_gradient"),
               seen[5].uses[0].output_gradient.square().sum(0).view({1, 2, 3}), bound);
}

TEST(StatisticsCollector, FillsEverySumOfItsTable) {
  const Statistics statistics = collect(every_kind(), kEveryShape, 8);
  const auto table = sum_table(statistics.header());
  EXPECT_EQ(table.size(), statistics.sums().infos().size());
  for (const auto& [name, info] : table) {
    EXPECT_EQ(statistics.sums().infos().at(name), info.tensor) << name;
    EXPECT_GT(sum_of(statistics, name).abs().max().item().toDouble(), 0) << name;
  }
  EXPECT_THAT(statistics.header().unobserved, IsEmpty());
  EXPECT_EQ(statistics.header().examples, 8);
}

TEST(StatisticsCollector, GivesTheSameSumsForEveryBatchSize) {
  const Statistics single = collect(every_kind(), kEveryShape, 1);
  for (const int64_t batch : {3, 8}) {
    const Statistics other = collect(every_kind(), kEveryShape, batch);
    for (const auto& [name, info] : single.sums().infos()) {
      SCOPED_TRACE(name);
      expect_close(sum_of(other, name), sum_of(single, name), 64 * kFloat64Epsilon);
    }
    EXPECT_EQ(other.header().examples, 8);
  }
}

TEST(StatisticsCollector, KeepsFloat64SumsOfFloat32ObservationsByDefault) {
  const Statistics exact = collect(every_kind(), kEveryShape, 8);
  const Statistics rounded = collect(every_kind(), kEveryShape, 3, {}, at::kFloat);
  EXPECT_EQ(rounded.header().dtype, "float64");
  for (const auto& [name, info] : exact.sums().infos()) {
    SCOPED_TRACE(name);
    EXPECT_EQ(rounded.sums().infos().at(name), info);
    expect_close(sum_of(rounded, name), sum_of(exact, name),
                 32 * kFloat32Epsilon);  // the inputs themselves are rounded
  }
}

TEST(StatisticsCollector, KeepsFloat32SumsByOption) {
  CollectorOptions options;
  options.dtype = "float32";
  const Statistics exact = collect(every_kind(), kEveryShape, 8);
  for (const auto observed : {at::kFloat, at::kDouble}) {
    const Statistics statistics = collect(every_kind(), kEveryShape, 3, options, observed);
    EXPECT_EQ(statistics.header().dtype, "float32");
    EXPECT_EQ(sum_of(statistics, "fc/input_gram").scalar_type(), at::kFloat);
    for (const auto& [name, info] : exact.sums().infos()) {
      SCOPED_TRACE(name);
      expect_close(sum_of(statistics, name), sum_of(exact, name), 32 * kFloat32Epsilon);
    }
  }
}

TEST(StatisticsCollector, TakesHalfPrecisionObservations) {
  const Statistics exact = collect(every_kind(), kEveryShape, 8);
  const Statistics half = collect(every_kind(), kEveryShape, 8, {}, at::kBFloat16);
  for (const auto& [name, info] : exact.sums().infos()) {
    SCOPED_TRACE(name);
    expect_close(sum_of(half, name), sum_of(exact, name), 8 * 0x1p-8);  // bfloat16 rounds to 2⁻⁸
  }
}

TEST(StatisticsCollector, CountsInputsOnceAndGradientsEveryTimeInRepeatedPasses) {
  const auto seen = every_kind();
  const Statistics once = collect(seen, kEveryShape, 8);
  StatisticsCollector collector(table_of(seen), kEveryShape, kAllKinds);
  for (const bool repeated : {false, true})
    for (const Seen& item : seen) collector.observe({.layer = item.layer, .uses = item.uses, .repeated = repeated});
  collector.end_batch(8);
  const Statistics twice = collector.finish({});
  for (const auto& [name, info] : once.sums().infos()) {
    const bool of_gradients = name.ends_with("gradient") || name.ends_with("output_gram");
    SCOPED_TRACE(name);
    expect_close(sum_of(twice, name), sum_of(once, name) * (of_gradients ? 2 : 1), 64 * kFloat64Epsilon);
  }
}

TEST(StatisticsCollector, KeepsOneInputGramForLayersFedTheSameTensor) {
  Layer query = linear(2, 4, "query"), key = linear(3, 4, "key");
  key.input_of = "query";
  const at::Tensor input = random({8, 2, 4}, 1);
  const at::Tensor two = random({8, 2, 2}, 2), three = random({8, 2, 3}, 3);
  const Statistics statistics =
      collect({{query, {use_of(input, two, {}, two)}}, {key, {use_of(input, three, {}, three)}}},
              shapes({{"query.weight", {2, 4}}, {"query.bias", {2}}, {"key.weight", {3, 4}}, {"key.bias", {3}}}), 8);
  EXPECT_TRUE(statistics.sums().contains("query/input_gram"));
  EXPECT_FALSE(statistics.sums().contains("key/input_gram"));
  EXPECT_TRUE(statistics.has_input_gram(key));
  EXPECT_TRUE(statistics.input_gram(key).equal(statistics.input_gram(query)));
}

TEST(StatisticsCollector, RefusesASharedInputThatWasNotTheSame) {
  Layer query = linear(2, 4, "query"), key = linear(2, 4, "key");
  key.input_of = "query";
  StatisticsCollector collector(
      {.layers = {query, key}, .aliases = {}},
      shapes({{"query.weight", {2, 4}}, {"query.bias", {2}}, {"key.weight", {2, 4}}, {"key.bias", {2}}}),
      {StatisticKind::kInputGram});
  const std::vector<LayerUse> once = {use_of(random({8, 2, 4}, 1))}, twice = {once[0], once[0]};
  collector.observe({.layer = query, .uses = once});
  collector.observe({.layer = key, .uses = twice});
  EXPECT_THROW(collector.end_batch(8), c10::Error);
}

TEST(StatisticsCollector, AsksForNoMoreThanItsKindsNeed) {
  const auto needs = [](std::set<StatisticKind> kinds) {
    return StatisticsCollector({}, {}, std::move(kinds)).needs();
  };
  EXPECT_FALSE(needs({StatisticKind::kInputGram}).gradients);
  EXPECT_FALSE(needs({StatisticKind::kInputGram, StatisticKind::kSquaredGradient}).outputs);
  EXPECT_TRUE(needs({StatisticKind::kOutputGram}).gradients);
  EXPECT_TRUE(needs({StatisticKind::kSquaredGradient}).gradients);
  EXPECT_TRUE(needs({StatisticKind::kMoments}).outputs);
  EXPECT_FALSE(needs({StatisticKind::kMoments}).gradients);
}

TEST(StatisticsCollector, NeedsNoGradientsForInputGrams) {
  const Layer layer = linear(2, 4);
  const std::vector<LayerUse> uses = {use_of(random({8, 1, 4}, 1))};
  StatisticsCollector collector({.layers = {layer}, .aliases = {}}, shapes({{"fc.weight", {2, 4}}, {"fc.bias", {2}}}),
                                {StatisticKind::kInputGram});
  collector.observe({.layer = layer, .uses = uses});
  collector.end_batch(8);
  const Statistics statistics = collector.finish({});
  EXPECT_THAT(statistics.header().unobserved, IsEmpty());
  expect_close(sum_of(statistics, "fc/input_gram"), naive_gram(uses[0].input, {}), 8 * kFloat64Epsilon);
}

TEST(StatisticsCollector, SquaresNoGradientOfAnEmbeddingThatIsTheOutputHead) {
  Layer head = linear(6, 3, "embedding");
  head.bias.clear();
  const at::Tensor gradient = random({8, 1, 6}, 1);
  const Statistics statistics =
      collect({{embedding(6, 3), {use_of(random_indices(6, {8, 4}, 2), random({8, 4, 3}, 3))}},
               {head, {use_of(random({8, 1, 3}, 4), gradient, {}, gradient)}}},
              shapes({{"embedding.weight", {6, 3}}}), 8);
  EXPECT_FALSE(statistics.has_squared_gradient("embedding.weight"));
  EXPECT_TRUE(statistics.has_input_gram(head));
  EXPECT_TRUE(statistics.has_output_gram(head));
  EXPECT_THAT(statistics.header().unobserved, ElementsAre(HasSubstr("embedding.weight: it is part of layer")));
}

TEST(StatisticsCollector, NamesLayersThatDidNotRunOrGotNoGradient) {
  const Layer runs = linear(2, 4, "runs"), sleeps = linear(2, 4, "sleeps"), dangles = linear(2, 4, "dangles");
  StatisticsCollector collector({.layers = {runs, sleeps, dangles}, .aliases = {}},
                                shapes({{"runs.weight", {2, 4}},
                                        {"runs.bias", {2}},
                                        {"sleeps.weight", {2, 4}},
                                        {"sleeps.bias", {2}},
                                        {"dangles.weight", {2, 4}},
                                        {"dangles.bias", {2}}}),
                                {StatisticKind::kInputGram, StatisticKind::kSquaredGradient});
  const std::vector<LayerUse> uses = {use_of(random({8, 1, 4}, 1), random({8, 1, 2}, 2))},
                              lost = {use_of(uses[0].input)};
  collector.observe({.layer = runs, .uses = uses});
  collector.observe({.layer = dangles, .uses = lost});
  collector.end_batch(8);
  StatisticsHeader header;
  header.unobserved = {"other.weight: an operator that is not understood"};
  const Statistics statistics = collector.finish(header);
  EXPECT_THAT(statistics.header().unobserved, ElementsAre("other.weight: an operator that is not understood",
                                                          "dangles.bias: no gradient reached its layer 'dangles'",
                                                          "dangles.weight: no gradient reached its layer 'dangles'",
                                                          "sleeps.bias: its layer 'sleeps' did not run",
                                                          "sleeps.weight: its layer 'sleeps' did not run"));
  EXPECT_TRUE(statistics.has_input_gram(dangles));
  EXPECT_FALSE(statistics.has_squared_gradient("dangles.weight"));
  EXPECT_FALSE(statistics.has_input_gram(sleeps));
}

TEST(StatisticsCollector, DropsASquaredGradientOfSomeRowSlicesOnly) {
  Layer first = linear(2, 4, "packed[0:2]"), second = linear(2, 4, "packed[2:4]");
  first.weight = second.weight = "packed.weight";
  first.bias = second.bias = "packed.bias";
  second.row_begin = 2;
  second.row_end = 4;
  StatisticsCollector collector({.layers = {first, second}, .aliases = {}},
                                shapes({{"packed.weight", {4, 4}}, {"packed.bias", {4}}}),
                                {StatisticKind::kSquaredGradient});
  const std::vector<LayerUse> uses = {use_of(random({8, 1, 4}, 1), random({8, 1, 2}, 2))};
  collector.observe({.layer = first, .uses = uses});
  EXPECT_FALSE(collector.finish({}).has_squared_gradient("packed.weight"));
  collector.observe({.layer = second, .uses = uses});
  EXPECT_TRUE(collector.finish({}).has_squared_gradient("packed.weight"));
}

TEST(StatisticsCollector, PassesOverLayersThatAreNotInItsTable) {
  StatisticsCollector collector({}, {}, kAllKinds);
  const Layer layer = linear(2, 4);
  const std::vector<LayerUse> uses = {use_of(random({8, 1, 4}, 1))};
  collector.observe({.layer = layer, .uses = uses});
  EXPECT_THAT(collector.finish({}).sums().infos(), IsEmpty());
}

TEST(StatisticsCollector, RefusesSumsThatAreNotFinite) {
  const Layer layer = linear(1, 1);
  StatisticsCollector collector({.layers = {layer}, .aliases = {}}, shapes({{"fc.weight", {1, 1}}, {"fc.bias", {1}}}),
                                {StatisticKind::kInputGram});
  const std::vector<LayerUse> uses = {
      use_of(at::full({1, 1, 1}, std::numeric_limits<double>::infinity(), at::kDouble))};
  collector.observe({.layer = layer, .uses = uses});
  EXPECT_THAT(input_error_of([&] { collector.finish({}); }), HasSubstr("not finite at 'fc/input_gram'"));
}

TEST(StatisticsCollector, RefusesTwoLayersOfOneNameAndKind) {
  Layer encoder = linear(3, 2), decoder = linear(2, 3);
  decoder.transposed = true;
  encoder.bias.clear();
  decoder.bias.clear();
  const LayerTable table{.layers = {encoder, decoder}, .aliases = {}};
  EXPECT_THAT(input_error_of([&] {
                StatisticsCollector(table, shapes({{"fc.weight", {3, 2}}}), kAllKinds);
              }),
              HasSubstr("holds 'fc' (linear) twice"));
}

TEST(StatisticsCollector, RefusesAParameterThatTheModelDoesNotHave) {
  EXPECT_THAT(input_error_of([] { StatisticsCollector({.layers = {linear(1, 1)}, .aliases = {}}, {}, kAllKinds); }),
              HasSubstr("the model has no parameter 'fc.weight'"));
}

}  // namespace
}  // namespace amalgam
