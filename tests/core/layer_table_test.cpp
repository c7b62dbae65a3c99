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
  layer.row_end = layer.out = 8;
  layer.in = 18;
  layer.groups = 2;
  layer.kernel = {3, 3};
  layer.stride = {2, 2};
  layer.padding = {1, 1};
  layer.dilation = {1, 1};
  layer.input_of = "conv";
  table.layers.push_back(layer);
  table.aliases["tied.weight"] = "conv.weight";
  const auto again = layer_table_from_json(to_json(table));
  EXPECT_EQ(to_json(again), to_json(table));
  EXPECT_EQ(again.find("conv")->stride, layer.stride);
  EXPECT_EQ(again.find("none"), nullptr);
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
