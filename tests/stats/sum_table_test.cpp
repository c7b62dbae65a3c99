#include "stats/sum_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "expect_error.h"
#include "stats/reference.h"

namespace amalgam {
namespace {

using namespace reference;
using testing::HasSubstr;

std::vector<std::string> names_of(const std::map<std::string, SumInfo>& table) {
  std::vector<std::string> names;
  for (const auto& [name, info] : table) names.push_back(name);
  return names;
}

TEST(SumTable, HoldsWhatTheKindsAskOfEachLayer) {
  StatisticsHeader header;
  header.dtype = "float32";
  header.layers.layers = {convolution(4, 6, 2, {{3}, {1}, {0}, {1}}), norm(LayerKind::kBatchNorm, 4)};
  header.parameter_shapes = {{"conv.weight", {4, 3, 3}}, {"conv.bias", {4}}, {"norm.weight", {4}}, {"norm.bias", {4}}};
  header.kinds = {StatisticKind::kInputGram};
  EXPECT_THAT(names_of(sum_table(header)), testing::ElementsAre("conv/input_gram", "conv/input_sum", "conv/rows"));
  header.kinds = {StatisticKind::kOutputGram};
  EXPECT_THAT(names_of(sum_table(header)), testing::ElementsAre("conv/output_gram", "conv/rows"));
  header.kinds = {StatisticKind::kMoments};
  EXPECT_THAT(names_of(sum_table(header)),
              testing::ElementsAre("conv/output_square_sum", "conv/output_sum", "conv/rows", "norm/output_square_sum",
                                   "norm/output_sum", "norm/rows"));
  header.kinds = {StatisticKind::kSquaredGradient};
  EXPECT_THAT(names_of(sum_table(header)),
              testing::ElementsAre("conv.bias/squared_gradient", "conv.weight/squared_gradient",
                                   "norm.bias/squared_gradient", "norm.weight/squared_gradient"));
  header.kinds = {StatisticKind::kGradientGram};
  EXPECT_THAT(names_of(sum_table(header)),
              testing::ElementsAre("conv.bias/gradient_gram", "norm.bias/gradient_gram", "norm.weight/gradient_gram"));
  EXPECT_EQ(sum_table(header).at("conv.bias/gradient_gram").tensor, (TensorInfo{at::kFloat, {4, 4}}));

  header.kinds = {StatisticKind::kSquaredGradient};
  header.kinds.insert({StatisticKind::kInputGram, StatisticKind::kOutputGram});
  const auto table = sum_table(header);
  EXPECT_EQ(table.at("conv/input_gram").tensor, (TensorInfo{at::kFloat, {2, 9, 9}}));
  EXPECT_EQ(table.at("conv/input_sum").tensor, (TensorInfo{at::kFloat, {2, 9}}));
  EXPECT_EQ(table.at("conv/output_gram").tensor, (TensorInfo{at::kFloat, {2, 2, 2}}));
  EXPECT_EQ(table.at("conv/rows").tensor, (TensorInfo{at::kLong, {}}));
  EXPECT_EQ(table.at("conv.weight/squared_gradient").tensor, (TensorInfo{at::kFloat, {4, 3, 3}}));
  EXPECT_EQ(table.at("conv/output_gram").parameter, "conv.weight");
}

TEST(SumTable, RefusesAParameterThatDoesNotFitItsLayer) {
  StatisticsHeader header;
  header.kinds = {StatisticKind::kSquaredGradient};
  header.layers.layers = {linear(3, 4)};
  header.parameter_shapes = {{"fc.weight", {4, 3}}, {"fc.bias", {3}}};
  const auto refusal = [&] { return input_error_of([&] { sum_table(header); }); };
  EXPECT_THAT(refusal(), HasSubstr("layer 'fc' (out 3, in 4) does not fit its parameter 'fc.weight' float32 [4, 3]"));
  header.parameter_shapes["fc.weight"] = {3, 4};
  EXPECT_EQ(sum_table(header).size(), 2U);
  header.parameter_shapes["fc.bias"] = {2};
  EXPECT_THAT(refusal(), HasSubstr("does not fit its parameter 'fc.bias' float32 [2]"));
  header.parameter_shapes.erase("fc.bias");
  EXPECT_THAT(refusal(), HasSubstr("the shape of parameter 'fc.bias' is not known"));
}

TEST(SumTable, RefusesShapesThatNoParameterHas) {
  StatisticsHeader header;
  header.kinds = {StatisticKind::kSquaredGradient};
  header.layers.layers = {convolution(2, 2, 1, {{1}, {1}, {0}, {1}})};
  for (const auto& shape : {std::vector<int64_t>{int64_t{1} << 62, 4, 1}, {2, -2, -1}}) {
    header.parameter_shapes = {{"conv.weight", shape}, {"conv.bias", {2}}};
    EXPECT_THAT(input_error_of([&] { sum_table(header); }), HasSubstr("no parameter of the shape"));
  }
}

TEST(InputGramOwner, IsTheFirstLayerThatIsFedTheSameTensor) {
  Layer query = linear(2, 4, "query"), key = linear(2, 4, "key");
  key.input_of = "query";
  const LayerTable table{.layers = {query, key}, .aliases = {}};
  EXPECT_EQ(input_gram_owner(table, query), "query");
  EXPECT_EQ(input_gram_owner(table, key), "query");
}

TEST(InputGramOwner, IsAnotherForAConvolutionThatCutsOtherPatches) {
  const Window one{{1}, {1}, {0}, {1}}, three{{3}, {1}, {1}, {1}};
  Layer first = convolution(2, 4, 1, one, "first"), second = convolution(2, 4, 1, three, "second"),
        third = convolution(2, 4, 1, three, "third");
  second.input_of = third.input_of = "first";
  const LayerTable table{.layers = {first, second, third}, .aliases = {}};
  EXPECT_EQ(input_gram_owner(table, second), "second");
  EXPECT_EQ(input_gram_owner(table, third), "second");
}

TEST(InputGramOwner, IsFoundWhereTheFirstLayerIsNotInTheTable) {
  Layer key = linear(2, 4, "key"), value = linear(2, 4, "value");
  key.input_of = value.input_of = "private_head";
  const LayerTable table{.layers = {key, value}, .aliases = {}};
  EXPECT_EQ(input_gram_owner(table, value), "key");
}

TEST(InputGramOwner, IsNoHeadThatSharesItsWeightWithAnEmbedding) {
  Layer words = embedding(9, 4, "words"), head = linear(9, 4, "words"), value = linear(1, 4, "value");
  head.bias.clear();
  value.input_of = head.input_of = "words";
  StatisticsHeader header;
  header.kinds = {StatisticKind::kInputGram, StatisticKind::kOutputGram};
  header.layers.layers = {words, head, value};
  EXPECT_FALSE(has_grams(header.layers, head));
  EXPECT_EQ(input_gram_owner(header.layers, value), "value");
  EXPECT_THAT(names_of(sum_table(header)),
              testing::ElementsAre("value/input_gram", "value/input_sum", "value/output_gram", "value/rows"));
}

TEST(EntangledParameters, AreThoseOfSeveralLayersOfTheSameRows) {
  Layer words = embedding(9, 4, "words"), head = linear(9, 4, "words");
  head.bias.clear();
  const LayerTable tied{.layers = {words, head}, .aliases = {}};
  const auto pairs = tied_weights(tied);
  ASSERT_EQ(pairs.size(), 1U);  // these two are understood
  EXPECT_EQ(pairs.at("words.weight").head, &tied.layers[1]);
  EXPECT_TRUE(entangled_parameters(tied).empty());
  Layer third = linear(9, 4, "words");  // but not with a third one
  third.bias.clear();
  third.input_of = "elsewhere";
  const auto entangled = entangled_parameters({.layers = {words, head, third}, .aliases = {}});
  ASSERT_EQ(entangled.size(), 1U);
  EXPECT_THAT(entangled.at("words.weight"), HasSubstr("layer 'words' (linear)"));
}

TEST(EntangledParameters, AreNotRowSlicesSideBySide) {
  Layer query = linear(2, 4, "packed[0:2]"), key = linear(2, 4, "packed[2:4]");
  key.row_begin = 2;
  key.row_end = 4;
  query.weight = key.weight = "packed.weight";
  query.bias = key.bias = "packed.bias";
  EXPECT_TRUE(entangled_parameters({.layers = {query, key}, .aliases = {}}).empty());
  key.row_begin = 1;
  EXPECT_EQ(entangled_parameters({.layers = {query, key}, .aliases = {}}).size(), 2U);
}

}  // namespace
}  // namespace amalgam
