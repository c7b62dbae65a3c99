#include "stats/statistics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "core/atomic_file.h"
#include "core/digest.h"
#include "core/safetensors.h"
#include "expect_error.h"
#include "stats/collector.h"
#include "stats/combine.h"
#include "stats/reference.h"
#include "stats/small_statistics.h"
#include "stats/verify.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

using namespace reference;
using testing::HasSubstr;

Statistics made_by_hand(const LayerTable& layers, NamedTensors sums, int64_t examples) {
  StatisticsHeader header;
  header.task = "left";
  header.ranges = {{0, examples}};
  header.layers = layers;
  return {header, std::make_shared<MemoryTensors>(std::move(sums))};
}

at::Tensor matrix(std::vector<double> values, int64_t columns) {
  return at::tensor(values, at::kDouble).view({-1, columns});
}

TEST(Statistics, PutTheBiasColumnTogetherFromSumAndRows) {
  // The rows (1, 2) and (3, 4), each followed by a 1.
  Layer with_bias = linear(2, 2), without = linear(2, 2);
  without.bias.clear();
  const Statistics statistics = made_by_hand({.layers = {with_bias}, .aliases = {}},
                                             {{"fc/input_gram", matrix({10, 14, 14, 20}, 2)},
                                              {"fc/input_sum", at::tensor({4.0, 6.0}, at::kDouble)},
                                              {"fc/rows", at::scalar_tensor(2, at::kLong)}},
                                             1);
  EXPECT_TRUE(statistics.input_gram(with_bias).equal(matrix({5, 7, 2, 7, 10, 3, 2, 3, 1}, 3).unsqueeze(0)));
  EXPECT_TRUE(statistics.input_gram(without).equal(matrix({5, 7, 7, 10}, 2).unsqueeze(0)));
  EXPECT_EQ(statistics.rows(with_bias), 2);
}

TEST(Statistics, PutABiasColumnInEveryGroupOfAConvolution) {
  const Layer layer = convolution(2, 2, 2, {{1}, {1}, {0}, {1}});
  const Statistics statistics = made_by_hand({.layers = {layer}, .aliases = {}},
                                             {{"conv/input_gram", at::tensor({8.0, 32.0}).view({2, 1, 1})},  // float32
                                              {"conv/input_sum", at::tensor({4.0, 8.0}).view({2, 1})},
                                              {"conv/rows", at::scalar_tensor(4, at::kLong)}},
                                             1);
  EXPECT_TRUE(statistics.input_gram(layer).equal(matrix({2, 1, 1, 1, 8, 2, 2, 1}, 2).view({2, 2, 2})));
}

TEST(Statistics, DivideGradientsByExamples) {
  const Layer layer = linear(2, 1);
  const Statistics statistics = made_by_hand({.layers = {layer}, .aliases = {}},
                                             {{"fc/output_gram", matrix({4, 8, 8, 12}, 2)},
                                              {"fc.weight/squared_gradient", matrix({4, 16}, 1)},
                                              {"fc/rows", at::scalar_tensor(8, at::kLong)}},
                                             4);
  EXPECT_TRUE(statistics.output_gram(layer).equal(matrix({1, 2, 2, 3}, 2).unsqueeze(0)));
  EXPECT_TRUE(statistics.squared_gradient("fc.weight").equal(matrix({1, 4}, 1)));
  EXPECT_TRUE(statistics.has_squared_gradient("fc.weight"));
  EXPECT_FALSE(statistics.has_squared_gradient("fc.bias"));
  EXPECT_TRUE(statistics.has_output_gram(layer));
  EXPECT_FALSE(statistics.has_input_gram(layer));
}

TEST(Statistics, RefuseAGramMatrixOfNoRows) {
  const Layer layer = linear(2, 1);
  const Statistics statistics = made_by_hand({.layers = {layer}, .aliases = {}},
                                             {{"fc/input_gram", matrix({0}, 1)},
                                              {"fc/input_sum", at::zeros({1}, at::kDouble)},
                                              {"fc/rows", at::scalar_tensor(0, at::kLong)}},
                                             4);
  EXPECT_THAT(input_error_of([&] { statistics.input_gram(layer); }), HasSubstr("no row was counted at layer 'fc'"));
}

TEST(Statistics, OfOneExampleWithOneRowHaveTheTraceOfItsFisher) {
  // tr(A) tr(B) = |a|² |g|² = Σ F for one row; the bias column adds |g|², which is the bias's share.
  const Layer layer = linear(3, 4);
  StatisticsCollector collector(
      {.layers = {layer}, .aliases = {}}, {{"fc.weight", {at::kDouble, {3, 4}}}, {"fc.bias", {at::kDouble, {3}}}},
      {StatisticKind::kInputGram, StatisticKind::kOutputGram, StatisticKind::kSquaredGradient});
  const std::vector<LayerUse> uses = {use_of(random({1, 1, 4}, 1), random({1, 1, 3}, 2))};
  collector.observe({.layer = layer, .uses = uses});
  collector.end_batch(1);
  const Statistics statistics = collector.finish({});
  const double fisher =
      (statistics.squared_gradient("fc.weight").sum() + statistics.squared_gradient("fc.bias").sum()).item<double>();
  const double factors =
      (statistics.input_gram(layer)[0].trace() * statistics.output_gram(layer)[0].trace()).item<double>();
  EXPECT_NEAR(factors, fisher, 8 * kFloat64Epsilon * fisher);
}

TEST(Statistics, PutBlocksOnTheDiagonalAndLeaveOutWhatJoinsThemToTheBias) {
  const Layer layer = linear(2, 3);
  StatisticsHeader header;
  header.ranges = {{0, 4}};
  header.layers = {.layers = {layer}, .aliases = {}};
  header.blocks = {{"fc/input_gram", 2}, {"fc/output_gram", 1}};
  const Statistics statistics(
      header, std::make_shared<MemoryTensors>(NamedTensors{
                  {"fc/input_gram", at::tensor({2.0, 4.0, 4.0, 6.0, 8.0, 0.0, 0.0, 0.0}, at::kDouble).view({2, 2, 2})},
                  {"fc/input_sum", at::tensor({1.0, 1.0, 1.0}, at::kDouble)},
                  {"fc/output_gram", at::tensor({4.0, 8.0}, at::kDouble)},
                  {"fc/rows", at::scalar_tensor(2, at::kLong)}}));
  EXPECT_TRUE(
      statistics.input_gram(layer).equal(matrix({1, 2, 0, 0, 2, 3, 0, 0, 0, 0, 4, 0, 0, 0, 0, 1}, 4).unsqueeze(0)));
  EXPECT_TRUE(statistics.output_gram(layer).equal(matrix({1, 0, 0, 2}, 2).unsqueeze(0)));
}

TEST(ExampleRanges, AreSortedAndJoinedAndMayNotOverlap) {
  EXPECT_EQ(joined_ranges({{7, 9}, {0, 3}, {3, 5}}), (std::vector<ExampleRange>{{0, 5}, {7, 9}}));
  EXPECT_THAT(input_error_of([] { joined_ranges({{2, 4}, {0, 3}}); }), HasSubstr("[0, 3) and [2, 4) overlap"));
  EXPECT_THAT(input_error_of([] { joined_ranges({{4, 4}}); }), HasSubstr("[4, 4) is none"));
}

TEST(StatisticKinds, AreReadFromTheRecipesWords) {
  EXPECT_EQ(kinds_from_word("moments"), std::set{StatisticKind::kMoments});
  EXPECT_EQ(kinds_from_word("kronecker"), (std::set{StatisticKind::kInputGram, StatisticKind::kOutputGram}));
  for (const auto kind : {StatisticKind::kInputGram, StatisticKind::kOutputGram, StatisticKind::kSquaredGradient,
                          StatisticKind::kMoments})
    EXPECT_EQ(kinds_from_word(name_of(kind)), std::set{kind});
  EXPECT_THAT(input_error_of([] { kinds_from_word("input_gramm"); }), HasSubstr("did you mean 'input_gram'?"));
}

class StatisticsFile : public testing::Test {
 protected:
  // Statistics of a biased linear layer and a grouped convolution.
  static Statistics collected() {
    const Layer fc = linear(2, 3), conv = convolution(2, 4, 2, {{2}, {1}, {0}, {1}});
    StatisticsCollector collector({.layers = {fc, conv}, .aliases = {{"again.weight", "fc.weight"}}},
                                  {{"fc.weight", {at::kFloat, {2, 3}}},
                                   {"fc.bias", {at::kFloat, {2}}},
                                   {"conv.weight", {at::kFloat, {2, 2, 2}}},
                                   {"conv.bias", {at::kFloat, {2}}}},
                                  {StatisticKind::kInputGram, StatisticKind::kOutputGram,
                                   StatisticKind::kSquaredGradient, StatisticKind::kMoments});
    const std::vector<LayerUse> rows = {use_of(random({5, 2, 3}, 1), random({5, 2, 2}, 2), {}, random({5, 2, 2}, 3))},
                                images = {use_of(random({5, 4, 6}, 4), random({5, 5, 2}, 5), {}, random({5, 5, 2}, 6))};
    collector.observe({.layer = fc, .uses = rows});
    collector.observe({.layer = conv, .uses = images});
    collector.end_batch(5);
    StatisticsHeader header;
    header.task = "left \"tilted\"";
    header.label_mode = "sampled";
    header.temperature = 2.5;
    header.loss = "{name: cross_entropy}";
    header.ranges = {{7, 12}};
    header.seed = 18446744073709551615U;
    header.expert_digest = "ab12";
    header.data_digest = "cd34";
    header.unobserved = {"scale: an operator that is not understood"};
    return collector.finish(header);
  }

  // Writes the collected file with changed tensors and metadata, and says why it cannot be loaded.
  std::string refusal(const std::function<void(NamedTensors&, std::map<std::string, std::string>&)>& change) {
    collected().save(path_);
    NamedTensors tensors;
    std::map<std::string, std::string> metadata;
    {
      const SafetensorsFile file(path_);
      metadata = file.metadata();
      for (const auto& [name, info] : file.infos()) tensors[name] = file.get(name).clone();
    }
    change(tensors, metadata);
    write_safetensors(path_, tensors, metadata);
    const std::string text = input_error_of([&] { Statistics::load(path_); });
    EXPECT_THAT(text, HasSubstr("statistics file '" + path_.string() + "'"));
    return text;
  }

  TemporaryFolder folder_;
  std::filesystem::path path_ = folder_ / "left.safetensors";
};

TEST_F(StatisticsFile, KeepsEverySumAndTheHeader) {
  const Statistics saved = collected();
  saved.save(path_);
  const Statistics loaded = Statistics::load(path_);
  ASSERT_EQ(loaded.sums().infos(), saved.sums().infos());
  for (const auto& [name, info] : saved.sums().infos())
    EXPECT_TRUE(loaded.sums().get(name).equal(saved.sums().get(name))) << name;
  const StatisticsHeader &a = loaded.header(), &b = saved.header();
  EXPECT_EQ(a.task, "left \"tilted\"");
  EXPECT_EQ(a.label_mode, "sampled");
  EXPECT_EQ(a.temperature, 2.5);
  EXPECT_EQ(a.loss, "{name: cross_entropy}");
  EXPECT_EQ(a.ranges, (std::vector<ExampleRange>{{7, 12}}));
  EXPECT_EQ(a.examples(), 5);
  EXPECT_EQ(a.sums_digest, digest_of(saved.sums()));
  EXPECT_EQ(a.seed, 18446744073709551615U);
  EXPECT_EQ(a.dtype, "float64");
  EXPECT_EQ(a.products, "model");
  EXPECT_EQ(a.expert_digest, "ab12");
  EXPECT_EQ(a.data_digest, "cd34");
  EXPECT_EQ(a.kinds, b.kinds);
  EXPECT_EQ(a.unobserved, b.unobserved);
  EXPECT_EQ(a.parameter_shapes, b.parameter_shapes);
  EXPECT_EQ(to_json(a.layers), to_json(b.layers));
  EXPECT_TRUE(loaded.input_gram(a.layers.layers[1]).equal(saved.input_gram(b.layers.layers[1])));
}

TEST_F(StatisticsFile, IsTheSameByteForByteForTheSameInput) {
  collected().save(path_);
  collected().save(folder_ / "again.safetensors");
  EXPECT_EQ(read_file(path_), read_file(folder_ / "again.safetensors"));
}

TEST_F(StatisticsFile, OfAnotherVersionIsRefused) {
  EXPECT_THAT(refusal([](auto&, auto& metadata) { metadata["version"] = "1"; }),
              HasSubstr("it is of version 1, and this program reads version 2"));
}

TEST_F(StatisticsFile, ThatIsNoneIsRefused) {
  EXPECT_THAT(refusal([](auto&, auto& metadata) { metadata.clear(); }), HasSubstr("it is no statistics file"));
}

TEST_F(StatisticsFile, WithoutASumIsRefusedNamingIt) {
  for (const std::string name :
       {"fc/input_gram", "fc/rows", "conv/output_gram", "fc.bias/squared_gradient", "conv/output_sum"})
    EXPECT_THAT(refusal([&](auto& tensors, auto&) { tensors.erase(name); }), HasSubstr("it lacks '" + name + "'"));
}

TEST_F(StatisticsFile, MayLackSumsOfAnUnobservedParameter) {
  collected().save(path_);
  NamedTensors tensors;
  std::map<std::string, std::string> metadata;
  {
    const SafetensorsFile file(path_);
    metadata = file.metadata();
    for (const auto& [name, info] : file.infos())
      if (name != "fc.bias/squared_gradient") tensors[name] = file.get(name).clone();
  }
  metadata["unobserved"] = R"(["fc.bias: it is not known"])";
  write_safetensors(path_, tensors, metadata);
  EXPECT_FALSE(Statistics::load(path_).has_squared_gradient("fc.bias"));
}

TEST_F(StatisticsFile, WithASumOfAnotherShapeOrDtypeIsRefusedNamingIt) {
  const auto replaced = [&](const std::string& name, const at::Tensor& tensor) {
    return refusal([&](auto& tensors, auto&) { tensors[name] = tensor; });
  };
  EXPECT_THAT(replaced("fc/input_gram", at::zeros({2, 2}, at::kDouble)), HasSubstr("'fc/input_gram' is"));
  EXPECT_THAT(replaced("fc/input_gram", at::zeros({3, 3}, at::kFloat)), HasSubstr("'fc/input_gram' is"));
  EXPECT_THAT(replaced("conv/input_sum", at::zeros({4}, at::kDouble)), HasSubstr("'conv/input_sum' is"));
  EXPECT_THAT(replaced("conv.weight/squared_gradient", at::zeros({2, 4}, at::kDouble)),
              HasSubstr("'conv.weight/squared_gradient' is"));
  EXPECT_THAT(replaced("fc/rows", at::zeros({}, at::kDouble)), HasSubstr("'fc/rows' is"));
}

TEST_F(StatisticsFile, WithASumThatNoLayerAsksForIsRefused) {
  EXPECT_THAT(refusal([](auto& tensors, auto&) { tensors["other/input_gram"] = at::zeros({1}); }),
              HasSubstr("it holds 'other/input_gram'"));
}

TEST_F(StatisticsFile, WithBrokenMetadataIsRefusedNamingTheKey) {
  EXPECT_THAT(refusal([](auto&, auto& metadata) { metadata["examples"] = "many"; }),
              HasSubstr("'examples' cannot be read"));
  EXPECT_THAT(refusal([](auto&, auto& metadata) { metadata["examples"] = "0"; }),
              HasSubstr("it says to be of 0 examples, but its ranges [7, 12) are of 5"));
  EXPECT_THAT(refusal([](auto&, auto& metadata) { metadata["dtype"] = "\"int8\""; }), HasSubstr("its dtype is 'int8'"));
  EXPECT_THAT(refusal([](auto&, auto& metadata) { metadata["layers"] = "{}"; }), HasSubstr("no layer table"));
  EXPECT_THAT(refusal([](auto&, auto& metadata) { metadata["kinds"] = "[\"input\"]"; }),
              HasSubstr("no kind of statistics 'input'"));
  EXPECT_THAT(refusal([](auto&, auto& metadata) { metadata.erase("seed"); }), HasSubstr("its metadata lacks 'seed'"));
}

TEST_F(StatisticsFile, ThatIsMissingIsRefused) {
  EXPECT_THAT(input_error_of([&] { Statistics::load(folder_ / "none.safetensors"); }), HasSubstr("none.safetensors"));
}

TEST_F(StatisticsFile, IsReadByPythonsSafetensors) {
  const std::string python = AMALGAM_SOURCE_DIR "/.deps/venv/bin/python";
  if (!std::filesystem::exists(python)) GTEST_SKIP() << "there is no " << python;
  const Statistics statistics = collected();
  statistics.save(path_);
  write_file(folder_ / "read.py", R"(
import json, sys
from safetensors import safe_open
with safe_open(sys.argv[1], framework="numpy") as file:
    header = {key: json.loads(value) for key, value in file.metadata().items()}
    assert header["task"] == 'left "tilted"' and header["examples"] == 5, header
    gram = file.get_tensor("fc/input_gram")
    print(gram.shape == (3, 3), gram.dtype, float(gram[0, 1]).hex(), int(file.get_tensor("fc/rows")))
)");
  const std::string command =
      python + " " + (folder_ / "read.py").string() + " " + path_.string() + " > " + (folder_ / "out").string();
  ASSERT_EQ(std::system(command.c_str()), 0);
  const double element = statistics.sums().get("fc/input_gram")[0][1].item<double>();
  std::ifstream out(folder_ / "out");
  std::string shape, dtype, hex;
  int64_t rows = 0;
  out >> shape >> dtype >> hex >> rows;
  EXPECT_EQ(shape, "True");
  EXPECT_EQ(dtype, "float64");
  EXPECT_EQ(std::strtod(hex.c_str(), nullptr), element);
  EXPECT_EQ(rows, 10);
}

TEST(Statistics, NameTheSumsThatALayerIsMadeOf) {
  const Statistics statistics = small_statistics(0, kExamples);
  const auto names = [&](const char* layer, const std::set<StatisticKind>& kinds) {
    return statistics.sum_names(*statistics.header().layers.find(layer), kinds);
  };
  using testing::ElementsAre;
  EXPECT_THAT(names("fc", {StatisticKind::kInputGram}), ElementsAre("fc/input_gram", "fc/input_sum"));
  EXPECT_THAT(names("twin", {StatisticKind::kInputGram, StatisticKind::kOutputGram}),
              ElementsAre("fc/input_gram", "fc/input_sum", "twin/output_gram"));  // fed the same tensor
  EXPECT_THAT(names("twin", {StatisticKind::kSquaredGradient}), ElementsAre("twin.weight/squared_gradient"));
  EXPECT_THAT(names("fc", {StatisticKind::kReducedInputGram, StatisticKind::kMoments}), testing::IsEmpty());
}

// A layer and a head tied to an embedding that are fed the same tensor; the head's Gram matrices, too, and in blocks,
// as files held them once.
StatisticsHeader header_with_a_tied_head() {
  Layer words = embedding(9, 4, "words"), value = linear(1, 4, "value"), head = linear(9, 4, "words");
  head.bias.clear();
  head.input_of = value.input_of = "value";
  StatisticsHeader header = small_header(0, 4);
  header.kinds = {StatisticKind::kInputGram, StatisticKind::kOutputGram};
  header.layers.layers = {words, value, head};
  header.parameter_shapes = {{"words.weight", {9, 4}}, {"value.weight", {1, 4}}, {"value.bias", {1}}};
  header.blocks = {{"words/output_gram", 2}};
  return header;
}

NamedTensors sums_with_a_tied_head() {
  const at::Tensor rows = at::scalar_tensor(8, at::kLong);
  return {{"value/input_gram", at::eye(4, at::kDouble)},
          {"value/input_sum", at::ones({4}, at::kDouble)},
          {"value/output_gram", at::eye(1, at::kDouble)},
          {"value/rows", rows},
          {"words/output_gram", at::zeros({5, 2, 2}, at::kDouble)},
          {"words/rows", rows}};
}

TEST_F(StatisticsFile, WithGramMatricesOfATiedHeadIsReadPastThem) {
  make(header_with_a_tied_head(), sums_with_a_tied_head()).save(path_);
  const Statistics loaded = Statistics::load(path_);
  const Layer &value = loaded.header().layers.layers[1], &head = loaded.header().layers.layers[2];
  EXPECT_TRUE(loaded.has_input_gram(value) && loaded.has_output_gram(value));
  EXPECT_FALSE(loaded.has_input_gram(head) || loaded.has_output_gram(head));
  EXPECT_THAT(loaded.sum_names(head, loaded.header().kinds), testing::IsEmpty());
  EXPECT_THAT(loaded.header().blocks, testing::IsEmpty());
  EXPECT_THAT(verify_statistics(loaded), testing::IsEmpty());
  const Statistics all = add_statistics({{"left", loaded}});
  EXPECT_FALSE(all.sums().contains("words/output_gram"));
  EXPECT_TRUE(all.sums().contains("value/output_gram"));
}

TEST(Statistics, OfATiedHeadHaveNoInputGramOfALayerThatIsFedTheSame) {
  NamedTensors sums = sums_with_a_tied_head();
  std::erase_if(sums, [](const auto& sum) { return sum.first.starts_with("words"); });
  const Statistics statistics = make(header_with_a_tied_head(), sums);
  EXPECT_TRUE(statistics.has_input_gram(statistics.header().layers.layers[1]));
  EXPECT_FALSE(statistics.has_input_gram(statistics.header().layers.layers[2]));
}

}  // namespace
}  // namespace amalgam
