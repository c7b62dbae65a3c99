#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "apps/report_page.h"
#include "core/atomic_file.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

/// A merge of two experts with these layers, read from its file.
RunRecord run_with(const json& layers) {
  const TemporaryFolder temporary;
  const RunFolder folder(temporary.path());
  write_file(folder.recipe(), "name: small\ntasks: [{name: one}, {name: \"t<o\"}]\nmerge: [{method: mats}]\n");
  json experts = json::array();
  for (const char* task : {"one", "t<o"})
    experts.push_back({{"task", task}, {"weight", 1.0}, {"digest", "e"}, {"statistics", "s"}});
  const json record = {{"row", "mats"},
                       {"method", "mats"},
                       {"options", ""},
                       {"base", "b"},
                       {"experts", experts},
                       {"search", nullptr},
                       {"report", {{"layers", layers}, {"fallbacks", json::array()}}}};
  write_file(folder.merged("mats", ".merge.json"), record.dump());
  RunRecord run = read_run(folder);
  EXPECT_THAT(run.problems, testing::IsEmpty());
  return run;
}

json layer(const std::string& name) {
  return {{"layer", name},     {"solver", "conjugate gradients"}, {"iterations", 3},  {"residual", 1e-6},
          {"converged", true}, {"why", "reached the tolerance"},  {"history", {1.0}}, {"notes", json::array()}};
}

json layer(const std::string& name, const json& diagnostics) {
  json object = layer(name);
  object["diagnostics"] = diagnostics;
  return object;
}

std::string row_of(const std::string& page, const std::string& name) {
  const auto begin = page.find("<code>" + name + "</code>");
  return begin == std::string::npos ? "" : page.substr(begin, page.find("</tr>", begin) - begin);
}

TEST(ReportLayers, ShowsWhatASolvedLayerLooksLike) {
  json shown = layer("blocks.0.fc", {{"condition", 12345.0},
                                     {"effective_rank", {12.0, 40.0}},
                                     {"from_average", 0.125},
                                     {"from_expert", {0.5, 0.25}},
                                     {"unseen", 0.033}});
  shown["width"] = 1025;
  const auto page = layers_section(run_with(json::array({shown})));
  const auto row = row_of(page, "blocks.0.fc");
  EXPECT_THAT(row, HasSubstr("<td>1.2e+04</td>"));
  EXPECT_THAT(row, HasSubstr("<td>12–40 <small>of 1,025</small></td>"));
  EXPECT_THAT(row, HasSubstr("<td>0.125</td><td>0.25–0.5</td><td>3.3 %</td>"));
  for (const char* text : {"t&lt;o, blocks.0.fc: 0.25", "one, blocks.0.fc: 0.5", "average, blocks.0.fc: 0.125"})
    EXPECT_THAT(page, HasSubstr(text));  // of the map
  EXPECT_THAT(page, Not(HasSubstr("t<o")));
}

TEST(ReportLayers, ReadsRecordsThatKnowLess) {
  const auto page = layers_section(run_with(json::array(
      {layer("bare", json::object()), layer("odd", {{"unseen", nullptr}, {"from_expert", {nullptr, 0.5}}}),
       layer("none"),
       layer("zero",
             {{"effective_rank", {0.0, 0.0}}, {"from_average", 0.0}, {"from_expert", {0, 0}}, {"unseen", 1e-9}})})));
  EXPECT_THAT(row_of(page, "bare"), HasSubstr("<td>–</td><td>–</td><td>–</td><td>–</td><td>–</td>"));
  EXPECT_THAT(row_of(page, "odd"), HasSubstr("<td>0.5</td><td>–</td>"));
  EXPECT_THAT(row_of(page, "zero"), HasSubstr("<td>0</td><td>0</td><td>0</td><td>&lt; 0.1 %</td>"));
  EXPECT_EQ(row_of(page, "none"), "");
  EXPECT_THAT(page, Not(HasSubstr("nan")));
}

TEST(ReportLayers, SaysSoWhereNoMergeLooked) {
  EXPECT_THAT(layers_section(run_with(json::array({layer("none")}))), HasSubstr("class=\"missing\""));
}

}  // namespace
}  // namespace amalgam
