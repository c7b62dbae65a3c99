#include "stats/collector.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "core/error.h"
#include "expect_error.h"
#include "stats/gram.h"
#include "stats/reference.h"
#include "stats/squared_gradient.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

using namespace reference;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const std::set<StatisticKind> kAllKinds = {StatisticKind::kInputGram, StatisticKind::kOutputGram,
                                           StatisticKind::kSquaredGradient, StatisticKind::kMoments,
                                           StatisticKind::kGradientGram};

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
  EXPECT_EQ(statistics.header().examples(), 8);
}

TEST(StatisticsCollector, GivesTheSameSumsForEveryBatchSize) {
  const Statistics single = collect(every_kind(), kEveryShape, 1);
  for (const int64_t batch : {3, 8}) {
    const Statistics other = collect(every_kind(), kEveryShape, batch);
    for (const auto& [name, info] : single.sums().infos()) {
      SCOPED_TRACE(name);
      expect_close(sum_of(other, name), sum_of(single, name), 64 * kFloat64Epsilon);
    }
    EXPECT_EQ(other.header().examples(), 8);
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

TEST(StatisticsCollector, AddsUpInFloat64ThroughoutByOption) {
  CollectorOptions options;
  options.products = "float64";
  std::vector<Seen> rounded = every_kind();  // float32 values, known exactly
  for (Seen& item : rounded)
    for (LayerUse& use : item.uses) use = as(at::kDouble, as(at::kFloat, use));
  const Statistics exact = collect(rounded, kEveryShape, 8);
  const Statistics statistics = collect(rounded, kEveryShape, 3, options, at::kFloat);
  EXPECT_EQ(statistics.header().products, "float64");
  for (const auto& [name, info] : exact.sums().infos()) {
    SCOPED_TRACE(name);
    expect_close(sum_of(statistics, name), sum_of(exact, name), 64 * kFloat64Epsilon);
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
    const bool of_gradients = name.find("gradient") != std::string::npos || name.ends_with("output_gram");
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
  try {
    collector.end_batch(8);
    FAIL() << "accepted";
  } catch (const c10::Error& error) {
    EXPECT_THAT(error.what_without_backtrace(),
                HasSubstr("layers 'key' and 'query' are said to be fed the same tensor, but saw 32 and 16 rows"));
  }
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

// An embedding of 6 tokens that is also the output head: eight examples of four tokens, with repeats.
struct TiedCase {
  Layer token = embedding(6, 3), head = linear(6, 3, "embedding");
  std::vector<LayerUse> token_uses = {use_of(random_indices(6, {8, 4}, 2), random({8, 4, 3}, 3))},
                        head_uses = {use_of(random({8, 5, 3}, 4), random({8, 5, 6}, 1), {}, random({8, 5, 6}, 1))};

  TiedCase() { head.bias.clear(); }
  std::vector<Seen> seen() const { return {{token, token_uses}, {head, head_uses}}; }
};

TEST(StatisticsCollector, SquaresTheSummedGradientOfAnEmbeddingThatIsTheOutputHead) {
  const TiedCase tied;
  const auto loss = [&](const at::Tensor& weight, int64_t n) {
    return (at::embedding(weight, tied.token_uses[0].input[n]) * tied.token_uses[0].output_gradient[n]).sum() +
           (at::linear(tied.head_uses[0].input[n], weight) * tied.head_uses[0].output_gradient[n]).sum();
  };
  const at::Tensor expected = squared_by_autograd(at::zeros({6, 3}, at::kDouble), 8, loss);
  for (const int64_t batch : {1, 3, 8}) {
    const Statistics statistics = collect(tied.seen(), shapes({{"embedding.weight", {6, 3}}}), batch);
    expect_close(sum_of(statistics, "embedding.weight/squared_gradient"), expected, 64 * kFloat64Epsilon);
    EXPECT_FALSE(statistics.has_input_gram(tied.head));  // no method would read them
    EXPECT_FALSE(statistics.has_output_gram(tied.head));
    EXPECT_THAT(statistics.header().unobserved, IsEmpty());
  }
}

TEST(StatisticsCollector, CountsEachPassOfATiedWeightOnItsOwn) {
  const TiedCase tied;
  const auto parameters = shapes({{"embedding.weight", {6, 3}}});
  const Statistics once = collect(tied.seen(), parameters, 8);
  StatisticsCollector collector(table_of(tied.seen()), parameters, kAllKinds);
  for (const bool repeated : {false, true})
    for (const Seen& item : tied.seen())
      collector.observe({.layer = item.layer, .uses = item.uses, .repeated = repeated});
  collector.end_batch(8);
  expect_close(sum_of(collector.finish({}), "embedding.weight/squared_gradient"),
               2 * sum_of(once, "embedding.weight/squared_gradient"), 64 * kFloat64Epsilon);
}

TEST(StatisticsCollector, CountsATiedWeightWhoseHeadHadNoPart) {
  const TiedCase tied;
  StatisticsCollector collector(table_of(tied.seen()), shapes({{"embedding.weight", {6, 3}}}),
                                {StatisticKind::kSquaredGradient});
  collector.observe({.layer = tied.token, .uses = tied.token_uses});
  collector.end_batch(8);
  collector.observe({.layer = tied.head, .uses = tied.head_uses});
  collector.end_batch(8);
  at::Tensor expected = at::zeros({6, 3}, at::kDouble);
  add_squared_weight_gradient(tied.token, tied.token_uses, expected, 1 << 20);
  add_squared_weight_gradient(tied.head, tied.head_uses, expected, 1 << 20);
  expect_close(sum_of(collector.finish({}), "embedding.weight/squared_gradient"), expected, 64 * kFloat64Epsilon);
}

// ā_n and ḡ_n, one example and one row at a time: [N, d]
at::Tensor example_rows(const std::vector<LayerUse>& uses, bool gradients) {
  const int64_t examples = uses[0].input.size(0);
  std::vector<at::Tensor> rows;
  for (int64_t n = 0; n < examples; ++n) {
    at::Tensor sum;
    int64_t kept = 0;
    for (const LayerUse& use : uses) {
      const at::Tensor x = gradients ? use.output_gradient : use.input;
      for (int64_t t = 0; t < x.size(1); ++t) {
        if (use.mask.defined() && !use.mask[n][t].item<bool>()) continue;
        sum = sum.defined() ? sum + x[n][t] : x[n][t].clone();
        ++kept;
      }
    }
    if (kept > 0) rows.push_back(gradients ? sum : sum / kept);
  }
  return at::stack(rows);
}

TEST(StatisticsCollector, ReducesTheRowsOfAnExampleToOne) {
  auto seen = every_kind();
  seen[0].uses[0].mask[3].fill_(false);  // an example that one use leaves out
  StatisticsCollector collector(table_of(seen), kEveryShape, kinds_from_word("kronecker_reduced"));
  show(collector, seen, 3);
  const Statistics statistics = collector.finish({});
  const auto& uses = seen[0].uses;
  const at::Tensor a = example_rows(uses, false), g = example_rows(uses, true);  // [8, 4], [8, 5]
  const double bound = 64 * kFloat64Epsilon;
  expect_close(sum_of(statistics, "fc/reduced_input_gram"), a.t().mm(a), bound);
  expect_close(sum_of(statistics, "fc/reduced_input_sum"), a.sum(0), bound);
  expect_close(sum_of(statistics, "fc/reduced_output_gram"), g.t().mm(g), bound);
  EXPECT_EQ(statistics.rows(seen[0].layer, KroneckerForm::kReduce), 8);
  EXPECT_FALSE(statistics.has_input_gram(seen[0].layer));
  EXPECT_TRUE(statistics.has_input_gram(seen[0].layer, KroneckerForm::kReduce));
}

TEST(StatisticsCollector, LeavesExamplesWithoutARowOutOfTheReducedForm) {
  const Layer layer = linear(2, 3);
  const at::Tensor mask = at::ones({3, 2}, at::kBool);
  mask[1].fill_(false);
  const std::vector<LayerUse> uses = {use_of(random({3, 2, 3}, 1), random({3, 2, 2}, 2), mask)};
  StatisticsCollector collector({.layers = {layer}, .aliases = {}}, shapes({{"fc.weight", {2, 3}}, {"fc.bias", {2}}}),
                                kinds_from_word("kronecker_reduced"));
  collector.observe({.layer = layer, .uses = uses});
  collector.end_batch(3);
  const Statistics statistics = collector.finish({});
  EXPECT_EQ(statistics.rows(layer, KroneckerForm::kReduce), 2);
  const at::Tensor a = example_rows(uses, false);
  expect_close(sum_of(statistics, "fc/reduced_input_gram"), a.t().mm(a), 16 * kFloat64Epsilon);
}

TEST(StatisticsCollector, KeepsWideGramMatricesInBlocksByOption) {
  const auto seen = every_kind();
  const Statistics whole = collect(seen, kEveryShape, 3);
  for (const int64_t block : {1, 2, 3, 4}) {
    SCOPED_TRACE(block);
    CollectorOptions options;
    options.block_size = block;
    const Statistics cut = collect(seen, kEveryShape, 3, options);
    for (const Seen& item : {seen[0], seen[1]}) {
      const auto check = [&](const at::Tensor& of_cut, const at::Tensor& of_whole, int64_t width) {
        const at::Tensor number = at::arange(width).div(width > block ? block : width, "floor");
        const at::Tensor kept = number.unsqueeze(0).eq(number.unsqueeze(1)).to(at::kDouble);
        expect_close(of_cut.slice(1, 0, width).slice(2, 0, width),
                     of_whole.slice(1, 0, width).slice(2, 0, width) * kept, 64 * kFloat64Epsilon);
      };
      check(cut.input_gram(item.layer), whole.input_gram(item.layer), item.layer.in);
      check(cut.output_gram(item.layer), whole.output_gram(item.layer), item.layer.out / item.layer.groups);
    }
    EXPECT_EQ(cut.header().blocks.contains("fc/input_gram"), block < 4);
  }
}

TEST(StatisticsCollector, KeepsTheDiagonalsOfTheLayersThatPatternsName) {
  CollectorOptions options;
  options.diagonal = {"f*"};
  const Statistics statistics = collect(every_kind(), kEveryShape, 3, options);
  EXPECT_THAT(statistics.header().blocks,
              (std::map<std::string, int64_t>{{"fc/input_gram", 1}, {"fc/output_gram", 1}}));
  EXPECT_EQ(sum_of(statistics, "fc/input_gram").dim(), 1);
}

void expect_same_bits(const Statistics& a, const Statistics& b) {
  ASSERT_EQ(a.sums().infos(), b.sums().infos());
  for (const auto& [name, info] : a.sums().infos()) EXPECT_TRUE(a.sums().get(name).equal(b.sums().get(name))) << name;
}

TEST(StatisticsCollector, KeepsItsSumsInAMappedFileByOption) {
  const TemporaryFolder folder;
  CollectorOptions options;
  options.place = "file";
  options.folder = folder.path();
  expect_same_bits(collect(every_kind(), kEveryShape, 3, options), collect(every_kind(), kEveryShape, 3));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

class UnfinishedStatistics : public testing::Test {
 protected:
  static void show_half(StatisticsCollector& collector, int64_t begin) {
    for (const Seen& item : kSeen) {
      std::vector<LayerUse> uses;
      for (const LayerUse& use : item.uses) uses.push_back(part_of(use, begin, 4));
      collector.observe({.layer = item.layer, .uses = uses});
    }
    collector.end_batch(4);
  }

  static inline const std::vector<Seen> kSeen = every_kind();
  TemporaryFolder folder_;
  std::filesystem::path path_ = folder_ / "unfinished.safetensors";
};

TEST_F(UnfinishedStatistics, GoOnToTheSameBits) {
  StatisticsCollector undisturbed(table_of(kSeen), kEveryShape, kAllKinds),
      first(table_of(kSeen), kEveryShape, kAllKinds), second(table_of(kSeen), kEveryShape, kAllKinds);
  show_half(undisturbed, 0);
  show_half(undisturbed, 4);
  show_half(first, 0);
  first.save_progress(path_, "me");
  ASSERT_TRUE(second.resume(path_, "me", at::kCPU));
  EXPECT_EQ(second.examples(), 4);
  show_half(second, 4);
  expect_same_bits(second.finish({}), undisturbed.finish({}));
}

TEST_F(UnfinishedStatistics, OfOtherWorkOrDamagedAreNotGoneOnWith) {
  StatisticsCollector first(table_of(kSeen), kEveryShape, kAllKinds);
  show_half(first, 0);
  StatisticsCollector second(table_of(kSeen), kEveryShape, kAllKinds);
  EXPECT_FALSE(second.resume(path_, "me", at::kCPU));  // there is none
  first.save_progress(path_, "other");
  EXPECT_FALSE(second.resume(path_, "me", at::kCPU));
  std::filesystem::resize_file(path_, 100);
  EXPECT_FALSE(second.resume(path_, "other", at::kCPU));
  EXPECT_EQ(second.examples(), 0);
}

TEST_F(UnfinishedStatistics, OfSeveralProcessesAddUpInTheRoot) {
  StatisticsCollector whole(table_of(kSeen), kEveryShape, kAllKinds), root(table_of(kSeen), kEveryShape, kAllKinds),
      other(table_of(kSeen), kEveryShape, kAllKinds);
  show_half(whole, 0);
  show_half(whole, 4);
  show_half(root, 0);
  show_half(other, 4);
  std::vector<at::Tensor> sent;
  other.reduce([&](at::Tensor& sum) { sent.push_back(sum.clone()); }, false, at::kCPU);
  size_t next = 0;
  root.reduce([&](at::Tensor& sum) { sum.add_(sent.at(next++)); }, true, at::kCPU);
  const Statistics expected = whole.finish({}), sum = root.finish({});
  EXPECT_EQ(root.examples(), 8);
  EXPECT_EQ(other.examples(), 0);
  for (const auto& [name, info] : expected.sums().infos())
    expect_close(sum_of(sum, name), sum_of(expected, name), 16 * kFloat64Epsilon);
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

TEST(StatisticsCollector, ExpectsNoAddedParameterWhereNoGradientIsAskedFor) {
  std::vector<Seen> seen = every_kind();
  ASSERT_EQ(seen[5].layer.kind, LayerKind::kBias);
  seen = {seen[0], seen[5]};
  for (const StatisticKind kind : {StatisticKind::kInputGram, StatisticKind::kSquaredGradient}) {
    StatisticsCollector collector(table_of(seen), kEveryShape, {kind});
    show(collector, {seen[0]}, 8);
    EXPECT_EQ(collector.finish({}).header().unobserved.empty(), kind == StatisticKind::kInputGram);
  }
}

}  // namespace
}  // namespace amalgam
