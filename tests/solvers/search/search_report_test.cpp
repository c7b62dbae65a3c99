#include "solvers/search/search_report.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/error.h"

namespace amalgam {
namespace {

TEST(SearchReport, ComesBackFromItsText) {
  SearchReport report;
  report.measure = "score on val";
  report.unit = "evaluations";
  report.lower_is_better = false;
  report.curve = {{1, 0.25}, {9, std::numeric_limits<double>::infinity()}};
  report.why = "the budget is spent";
  report.val_looks = 9;
  report.groups = {"a.", "b."};
  report.tasks = {"left"};
  report.coefficients = {{0.5}, {-0.125}};
  const SearchReport read = search_report_from(nlohmann::json::parse(to_json(report).dump()));
  EXPECT_EQ(read.measure, report.measure);
  EXPECT_EQ(read.unit, report.unit);
  EXPECT_FALSE(read.lower_is_better);
  ASSERT_EQ(read.curve.size(), 2U);
  EXPECT_EQ(read.curve[0].spent, 1);
  EXPECT_EQ(read.curve[0].value, 0.25);
  EXPECT_TRUE(std::isnan(read.curve[1].value));  // JSON has no infinity
  EXPECT_EQ(read.why, report.why);
  EXPECT_EQ(read.val_looks, 9);
  EXPECT_EQ(read.groups, report.groups);
  EXPECT_EQ(read.tasks, report.tasks);
  EXPECT_EQ(read.coefficients, report.coefficients);
  EXPECT_THROW(search_report_from(nlohmann::json::object()), nlohmann::json::exception);
  report.tasks.push_back("right");
  EXPECT_THROW(search_report_from(to_json(report)), InputError);
}

}  // namespace
}  // namespace amalgam
