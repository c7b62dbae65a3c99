#include "solvers/merge_report_json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace amalgam {
namespace {

TEST(MergeReportJson, HoldsLayersWithTheirWidthsAndFallbacks) {
  MergeReport report;
  report.layers.resize(2);
  report.layers[0].layer = "fc";
  report.layers[1].layer = "lone";
  report.fallbacks = {{"norm", "no statistic", false}, {"packed", "unobserved", true}};
  report.merged_parameters = 3;
  Layer layer;
  layer.name = layer.input_of = "fc";
  layer.weight = "fc.weight";
  layer.bias = "fc.bias";
  layer.in = 4;
  LayerTable table;
  table.layers = {layer};
  const auto json = to_json(report, table);
  EXPECT_EQ(json.at("merged"), 3);
  EXPECT_EQ(json.at("layers")[0].at("width"), 5);  // the bias is a column
  EXPECT_FALSE(json.at("layers")[1].contains("width"));
  EXPECT_EQ(json.at("fallbacks")[1],
            (nlohmann::json{{"parameter", "packed"}, {"why", "unobserved"}, {"rows_only", true}}));
  EXPECT_FALSE(json.contains("search"));
}

}  // namespace
}  // namespace amalgam
