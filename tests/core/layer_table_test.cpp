#include "core/layer_table.h"

#include <gtest/gtest.h>

#include "expect_error.h"

namespace amalgam {
namespace {

using ::testing::HasSubstr;

TEST(LayerTable, SurvivesJson) {
  LayerTable table;
  Layer layer;
  layer.name = "conv";
  layer.kind = LayerKind::kConvolution;
  layer.weight = "conv.weight";
  layer.bias = "conv.bias";
  layer.row_begin = 3;
  layer.row_end = 11;
  layer.transposed = true;
  layer.out = 8;
  layer.in = 18;
  layer.groups = 2;
  layer.kernel = {3, 5};
  layer.stride = {2, 1};
  layer.padding = {1, 0};
  layer.dilation = {4, 6};
  layer.input_of = "before";
  table.layers.push_back(layer);
  table.aliases["tied.weight"] = "conv.weight";
  const auto again = layer_table_from_json(to_json(table));
  ASSERT_EQ(again.layers.size(), 1U);
  EXPECT_EQ(again.aliases, table.aliases);
  EXPECT_EQ(again.find("none"), nullptr);
  const Layer* const found = again.find("conv");
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->kind, LayerKind::kConvolution);
  EXPECT_EQ(found->weight, "conv.weight");
  EXPECT_EQ(found->bias, "conv.bias");
  EXPECT_EQ(found->row_begin, 3);
  EXPECT_EQ(found->row_end, 11);
  EXPECT_TRUE(found->transposed);
  EXPECT_EQ(found->out, 8);
  EXPECT_EQ(found->in, 18);
  EXPECT_EQ(found->groups, 2);
  EXPECT_EQ(found->kernel, layer.kernel);
  EXPECT_EQ(found->stride, layer.stride);
  EXPECT_EQ(found->padding, layer.padding);
  EXPECT_EQ(found->dilation, layer.dilation);
  EXPECT_EQ(found->input_of, "before");
}

TEST(LayerTable, RefusesWhatIsNoTable) {
  EXPECT_THAT(input_error_of([] { layer_table_from_json("{"); }), HasSubstr("no layer table"));
  EXPECT_THAT(input_error_of([] { layer_table_from_json(R"({"layers":[{"name":"a"}],"aliases":{}})"); }),
              HasSubstr("no layer table"));
}

/// What is wrong with a layer of this kind, in so many columns, from row `begin` on.
std::string error_of(LayerKind kind, int64_t in, int64_t begin) {
  LayerTable table;
  Layer& layer = table.layers.emplace_back();
  layer.name = "fc";
  layer.kind = kind;
  layer.out = 2;
  layer.in = in;
  layer.row_begin = begin;
  return input_error_of([&] { layer_table_from_json(to_json(table)); });
}

TEST(LayerTable, RefusesSizesThatWouldWrap) {
  EXPECT_THAT(error_of(LayerKind::kLinear, 3, INT64_MAX), HasSubstr("'fc' has a size or a row 9223372036854775807"));
  EXPECT_THAT(error_of(LayerKind::kLinear, 3, -1), HasSubstr("'fc' has a size or a row -1"));
  EXPECT_THAT(error_of(LayerKind::kEmbedding, INT64_MAX, 0), HasSubstr("'fc' has a size or a row"));
}

TEST(LayerTable, RefusesMatricesWithoutColumns) {
  for (const auto kind : {LayerKind::kLinear, LayerKind::kConvolution})
    EXPECT_THAT(error_of(kind, 0, 0), HasSubstr("impossible shape out 2, in 0"));
}

}  // namespace
}  // namespace amalgam
