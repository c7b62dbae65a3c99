#include "solvers/layer_report_json.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

namespace amalgam {
namespace {

LayerReport example() {
  LayerReport report;
  report.layer = "block.0 \"fc\"";
  report.solver = "conjugate gradients";
  report.iterations = 12;
  report.residual = 1.0 / 3.0;  // no short decimal number
  report.converged = false;
  report.why = "the time limit came first";
  report.history = {1.0, 0.1, 5e-324};
  report.notes = {"one", "two"};
  report.diagnostics = LayerDiagnostics{1e9 / 7, {1.0 / 7, 3.0}, 0.1, {0.25, 0.3}, 1e-17};
  return report;
}

TEST(LayerReportJson, GivesBackEveryFieldBitByBit) {
  const LayerReport report = example(), read = layer_report_from(nlohmann::json::parse(to_json(report).dump()));
  EXPECT_EQ(read.layer, report.layer);
  EXPECT_EQ(read.solver, report.solver);
  EXPECT_EQ(read.iterations, report.iterations);
  EXPECT_EQ(read.residual, report.residual);
  EXPECT_EQ(read.converged, report.converged);
  EXPECT_EQ(read.why, report.why);
  EXPECT_EQ(read.history, report.history);
  EXPECT_EQ(read.notes, report.notes);
  ASSERT_TRUE(read.diagnostics.has_value());
  EXPECT_EQ(read.diagnostics->condition, report.diagnostics->condition);
  EXPECT_EQ(read.diagnostics->effective_rank, report.diagnostics->effective_rank);
  EXPECT_EQ(read.diagnostics->from_average, report.diagnostics->from_average);
  EXPECT_EQ(read.diagnostics->from_expert, report.diagnostics->from_expert);
  EXPECT_EQ(read.diagnostics->unseen, report.diagnostics->unseen);
}

TEST(LayerReportJson, LeavesOutWhatIsNotKnown) {
  LayerReport report = example();
  report.diagnostics->condition.reset();
  EXPECT_FALSE(layer_report_from(to_json(report)).diagnostics->condition.has_value());
  report.diagnostics.reset();
  EXPECT_FALSE(to_json(report).contains("diagnostics"));
  EXPECT_FALSE(layer_report_from(to_json(report)).diagnostics.has_value());
}

TEST(LayerReportJson, ReadsWhatIsNotFiniteAsNaN) {
  LayerReport report = example();
  report.residual = std::numeric_limits<double>::infinity();
  report.history = {1.0, std::numeric_limits<double>::quiet_NaN()};
  const LayerReport read = layer_report_from(nlohmann::json::parse(to_json(report).dump()));
  EXPECT_TRUE(std::isnan(read.residual));
  ASSERT_EQ(read.history.size(), 2);
  EXPECT_TRUE(std::isnan(read.history[1]));
}

}  // namespace
}  // namespace amalgam
