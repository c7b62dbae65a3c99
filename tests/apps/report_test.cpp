#include "apps/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "apps/scores.h"
#include "core/atomic_file.h"
#include "core/error.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

/// A run of two tasks (`one`, `two`) and the rows `average`, `a<b` (a solver's) and `tie` in a folder that goes away
/// with the test.
class ReportTest : public ::testing::Test {
 protected:
  void write_recipe() {
    write_file(
        folder_.recipe(),
        "name: small\nseed: 7\ndevice: cpu\nprivate: []\ntasks:\n  - {name: one}\n  - {name: two}\n"
        "merge:\n  - average\n  - {method: mats, name: \"a<b\", note: \"<script>\"}\n  - {method: regmean, name: tie}\n"
        "report: {title: \"Two <tasks> & one model\"}\n");
  }

  /// @param value  of task one and of task two
  void add_scores(const std::string& row, const std::string& split, std::pair<double, double> value, double loss) {
    for (const auto& [task, figure, expert] :
         {std::tuple{"one", value.first, 0.8}, std::tuple{"two", value.second, 0.5}}) {
      ScoreLine line;
      line.method = row;
      line.task = task;
      line.split = split;
      line.metric = "accuracy";
      line.value = figure;
      line.loss = loss;
      line.count = split == "test" ? 1000 : 200;
      line.normalised = figure / expert;
      line.subset = "all";
      lines_.push_back(line);
    }
  }

  /// Normalised means on test: base 50, average 80, a<b 85, tie 90 and, on val, a<b 90, tie 85.
  void write_run_scores() {
    add_scores("base", "val", {0.4, 0.25}, 2.0);
    add_scores("base", "test", {0.4, 0.25}, 2.0);
    add_scores("expert", "val", {0.8, 0.5}, 0.5);
    add_scores("expert", "test", {0.8, 0.5}, 0.5);
    add_scores("average", "val", {0.64, 0.40}, 1.0);
    add_scores("average", "test", {0.64, 0.40}, 1.0);
    add_scores("a<b", "val", {0.72, 0.45}, 0.8);
    add_scores("a<b", "test", {0.72, 0.40}, 0.8);
    add_scores("tie", "val", {0.68, 0.425}, 0.9);
    add_scores("tie", "test", {0.72, 0.45}, 0.9);
    write_scores(folder_.scores(), lines_);
  }

  void write_step(const std::string& kind, const std::string& subject, const json& details,
                  const json& inputs = json::object(), const json& outputs = json::object()) {
    const json record = {{"step", kind + "-" + subject},
                         {"kind", kind},
                         {"subject", subject},
                         {"key", "k"},
                         {"inputs", inputs},
                         {"outputs", outputs},
                         {"seconds", 90.0},
                         {"peak_host_bytes", 2'000'000'000},
                         {"peak_device_bytes", 0},
                         {"device", "cpu"},
                         {"version", "0.1.0"},
                         {"torch", "2.11.0"},
                         {"finished", "2025-05-04T10:12:33Z"},
                         {"details", details}};
    write_file(folder_.step(kind + "-" + file_stem(subject)), record.dump());
  }

  static json layer(const std::string& name, double residual, const std::vector<double>& history, bool converged) {
    return {{"layer", name},
            {"solver", "conjugate gradients"},
            {"iterations", history.size()},
            {"residual", residual},
            {"converged", converged},
            {"why", converged ? "reached the tolerance" : "iterations used up"},
            {"history", history},
            {"notes", json::array()}};
  }

  void write_merge(const std::string& row, const json& layers, const json& fallbacks, const json& search) {
    const json record = {
        {"row", row},
        {"method", "mats"},
        {"options", "tolerance: 1e-05"},
        {"base", "b0"},
        {"experts", json::array({{{"task", "one"}, {"weight", 1.0}, {"digest", "e1"}, {"statistics", "s1"}}})},
        {"search", search},
        {"report", {{"layers", layers}, {"fallbacks", fallbacks}, {"merged", 1}, {"seconds", 1.0}}}};
    write_file(folder_.merged(row, ".merge.json"), record.dump());
  }

  void write_whole_run(bool converged) {
    write_recipe();
    write_run_scores();
    write_step("open", "base", {{"digest", "digest-of-base"}});
    write_step(
        "open", "one",
        {{"digest", "digest-of-one"},
         {"relative_change", json::array({json::array({"block.0.weight", 0.25}), json::array({"head.bias", 0.5})})}});
    write_step("train", "one",
               {{"curve",
                 {{{"step", 0}, {"val_value", 0.5}},
                  {{"step", 10}, {"val_value", 0.777}},
                  {{"step", 20}, {"val_value", nullptr}}}},
                {"best_step", 10}},
               {{"train_data", "data-of-one"}});
    write_step("collect", "one", {{"layers", 2}, {"unobserved", json::array({"class_token"})}},
               {{"examples", 64}, {"labels", "true"}},
               {{"statistics/one.safetensors", {{"size", 10}, {"sha256", "statistics-of-one"}}}});
    write_merge(
        "a<b",
        {layer("block.fast", 1e-6, {1.0, 1e-3, 1e-6}, true), layer("block.slow", 0.25, {1.0, 0.5, 0.25}, converged)},
        json::array({{{"parameter", "class_token"}, {"why", "no <statistic>"}, {"rows_only", false}}}),
        {{{"values", {{"damping", "0.1"}}}, {"mean", 0.5}}, {{"values", {{"damping", "1"}}}, {"mean", 0.75}}});
  }

  std::string page() {
    write_report(folder_);
    return read_file(folder_.report());
  }

  TemporaryFolder temporary_;
  RunFolder folder_{temporary_.path()};
  std::vector<ScoreLine> lines_;
};

/// From one text to the next one after it.
std::string between(const std::string& page, const std::string& from, const std::string& to) {
  const auto begin = page.find(from);
  if (begin == std::string::npos) return "";
  return page.substr(begin, page.find(to, begin) - begin);
}

std::string section(const std::string& page, const std::string& id) {
  return between(page, "<section id=\"" + id + "\"", "</section>");
}

/// The row of a table of scores; `split` says which table.
std::string table_row(const std::string& page, const std::string& split, const std::string& row) {
  const auto table = between(page, "<caption><span><b>" + split + "</b>", "</table>");
  return between(table, "<th scope=\"row\" class=\"word\">" + row, "</tr>");
}

TEST_F(ReportTest, NamesTheBestRowOfValWithItsFigureOfTest) {
  write_whole_run(true);
  const auto result = between(page(), "<p class=\"result\">", "</dl>");
  // (0.72/0.8 + 0.40/0.5) / 2 = 85 %; average 80 %.
  EXPECT_THAT(result,
              HasSubstr("a&lt;b keeps 85.0 % of the experts’ accuracy</strong> on test, 5.0 points above averaging."));
  EXPECT_THAT(result, HasSubstr("by its mean on val"));
  EXPECT_THAT(result, HasSubstr("On test itself <code>tie</code> is higher, at 90.0 %."));
  EXPECT_THAT(result, HasSubstr("on the worst task, two"));
}

TEST_F(ReportTest, SaysThatARowWasChosenOnTheReportedSplitWhereThereIsNoVal) {
  write_recipe();
  add_scores("average", "test", {0.64, 0.40}, 1.0);
  add_scores("tie", "test", {0.72, 0.45}, 1.0);
  write_scores(folder_.scores(), lines_);
  const auto result = between(page(), "<p class=\"result\">", "</dl>");
  EXPECT_THAT(result, HasSubstr("tie keeps 90.0 %"));
  EXPECT_THAT(result, HasSubstr("chosen on test itself"));
}

TEST_F(ReportTest, SaysSoWhereNothingBeatsAveraging) {
  write_recipe();
  add_scores("average", "test", {0.72, 0.45}, 1.0);
  add_scores("tie", "test", {0.64, 0.40}, 1.0);
  write_scores(folder_.scores(), lines_);
  EXPECT_THAT(between(page(), "<p class=\"result\">", "</p>"),
              HasSubstr("average keeps 90.0 % of the experts’ accuracy</strong> on test: no "
                        "other row does better than plain averaging."));
}

TEST_F(ReportTest, SetsTheBestMergedRowOfEachColumnInBoldAndAllOfATie) {
  write_whole_run(true);
  const auto html = page();
  EXPECT_THAT(table_row(html, "test", "tie"), HasSubstr("<strong>90.0</strong>"));
  EXPECT_THAT(table_row(html, "test", "tie"), HasSubstr("<strong>72.0</strong>"));
  EXPECT_THAT(table_row(html, "test", "a&lt;b"), HasSubstr("<strong>72.0</strong>"));
  EXPECT_THAT(table_row(html, "test", "a&lt;b"), HasSubstr("<td>85.0</td>"));
  EXPECT_THAT(table_row(html, "val", "a&lt;b"), HasSubstr("<strong>90.0</strong>"));
  EXPECT_THAT(table_row(html, "test", "average"), AllOf(HasSubstr("80.0"), Not(HasSubstr("<strong>"))));
  EXPECT_THAT(table_row(html, "test", "expert"), HasSubstr("100.0"));
  EXPECT_THAT(table_row(html, "test", "expert"), Not(HasSubstr("<strong>")));
}

TEST_F(ReportTest, TakesTheSmallestLossForTheBest) {
  write_whole_run(true);
  const auto html = page();
  EXPECT_THAT(table_row(html, "test", "a&lt;b"), HasSubstr("<strong>0.800</strong>"));
  EXPECT_THAT(table_row(html, "test", "tie"), HasSubstr("<td>0.900</td>"));
}

TEST_F(ReportTest, PutsTestFirstAndCountsExamplesAndEvaluationsOfVal) {
  write_whole_run(true);
  const auto scores = section(page(), "scores");
  const auto val = scores.find("<caption><span><b>val</b>");
  ASSERT_NE(val, std::string::npos);
  EXPECT_LT(scores.find("<caption><span><b>test</b>"), val);
  EXPECT_THAT(scores, HasSubstr("2,000 scored examples, 1,000 a task"));
  EXPECT_THAT(table_row(scores, "test", "a&lt;b"), HasSubstr("2 evaluations of val"));
}

TEST_F(ReportTest, NamesTheLayersThatDidNotConverge) {
  write_whole_run(false);
  const auto alert = between(section(page(), "solves"), "<div class=\"alert\"", "</div>");
  EXPECT_THAT(alert, HasSubstr("1 of 2 layers of a&lt;b did not converge:</strong> <code>block.slow</code>"));
  EXPECT_THAT(alert, Not(HasSubstr("block.fast")));
}

TEST_F(ReportTest, SaysThatAllConvergedWithTheLargestResidual) {
  write_whole_run(true);
  const auto solves = section(page(), "solves");
  EXPECT_THAT(solves, Not(HasSubstr("class=\"alert\"")));
  EXPECT_THAT(
      solves,
      HasSubstr(
          "All 2 solves converged; the largest true residual ‖b − Kx‖ / ‖b‖ is 2.5e-01, at <code>block.slow</code>"));
}

TEST_F(ReportTest, DrawsOneLineALayerAndTheirMedian) {
  write_whole_run(true);
  const auto solves = section(page(), "solves");
  size_t lines = 0;
  for (auto at = solves.find("<polyline"); at != std::string::npos; at = solves.find("<polyline", at + 1)) ++lines;
  EXPECT_EQ(lines, 3u);
}

TEST_F(ReportTest, DrawsAResidualThatIsNotFinite) {
  write_recipe();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  write_merge("a<b", json::array({layer("block.lost", nan, {1.0, 0.5, nan}, false)}), json::array(), nullptr);
  const auto solves = section(page(), "solves");
  EXPECT_THAT(solves, HasSubstr("not finite"));
  EXPECT_THAT(between(solves, "points=\"", "\" class"), Not(HasSubstr("nan")));
}

TEST_F(ReportTest, EscapesEveryName) {
  write_whole_run(true);
  const auto html = page();
  EXPECT_THAT(html, HasSubstr("<h1>Two &lt;tasks&gt; &amp; one model</h1>"));
  EXPECT_THAT(html, HasSubstr("no &lt;statistic&gt;"));
  EXPECT_THAT(html, Not(HasSubstr("a<b")));
  EXPECT_THAT(html, Not(HasSubstr("<tasks>")));
  EXPECT_THAT(html, Not(HasSubstr("<script")));
}

TEST_F(ReportTest, NeedsNothingFromOutside) {
  write_whole_run(true);
  const auto html = page();
  for (const std::string outside : {"http:", "https:", "src=", "url(", "@import", "<link", "<script", "href=\"//"})
    EXPECT_THAT(html, Not(HasSubstr(outside)));
}

TEST_F(ReportTest, ClosesEveryElementThatItOpens) {
  write_whole_run(false);
  const auto html = page();
  for (const std::string tag : {"section", "table", "tr", "td", "th", "details", "summary", "div", "figure", "svg", "g",
                                "text", "p", "dl", "span"}) {
    const auto count = [&](const std::string& start) {
      size_t found = 0;
      for (auto at = html.find(start); at != std::string::npos; at = html.find(start, at + 1)) ++found;
      return found;
    };
    EXPECT_EQ(count("<" + tag + ">") + count("<" + tag + " "), count("</" + tag + ">")) << tag;
  }
}

TEST_F(ReportTest, ShowsWhatTheStepsRecorded) {
  write_whole_run(true);
  const auto html = page();
  EXPECT_THAT(section(html, "change"), HasSubstr("<code>block.0.weight</code></th><td>0.25</td>"));
  EXPECT_THAT(section(html, "training"), HasSubstr("77.7 %"));
  EXPECT_THAT(section(html, "cost"), HasSubstr("1 min 30 s"));
  EXPECT_THAT(section(html, "cost"), HasSubstr("2.0 GB"));
  const auto making = section(html, "making");
  for (const std::string fact : {"digest-of-base", "digest-of-one", "data-of-one", "statistics-of-one",
                                 "64 examples, true labels", "0.1.0", "2.11.0", "note: &quot;&lt;script&gt;&quot;"})
    EXPECT_THAT(making, HasSubstr(fact));
  EXPECT_THAT(making, HasSubstr("Not observed with the expert of one: <code>class_token</code>."));
  EXPECT_THAT(making, HasSubstr("1 parameter averaged instead"));
}

TEST_F(ReportTest, ListsWhatASearchTriedWithWhatItFound) {
  write_whole_run(true);
  EXPECT_THAT(section(page(), "searches"), HasSubstr("damping = 1</th><td><strong>75.0</strong>"));
}

TEST_F(ReportTest, SaysWhatAPartialRunHasNotMade) {
  write_recipe();
  const auto html = page();
  EXPECT_THAT(html, HasSubstr("This run has no scores yet"));
  for (const std::string id : {"scores", "comparison", "searches", "solves", "layers", "change", "training", "cost"})
    EXPECT_THAT(section(html, id), HasSubstr("class=\"missing\"")) << id;
}

TEST_F(ReportTest, DrawsScoresWithoutARecipe) {
  write_run_scores();
  const auto html = page();
  EXPECT_THAT(html, HasSubstr("a&lt;b keeps 85.0 %"));
  EXPECT_THAT(section(html, "making"), HasSubstr("<code>recipe.resolved.yaml</code> is not there."));
}

TEST_F(ReportTest, GivesNoMeanOfARowThatLacksATask) {
  write_recipe();
  add_scores("expert", "test", {0.8, 0.5}, 0.5);
  add_scores("tie", "test", {0.72, 0.45}, 1.0);
  lines_.pop_back();
  write_scores(folder_.scores(), lines_);
  const auto html = page();
  EXPECT_THAT(html, HasSubstr("No merged model has been scored on every task yet"));
  EXPECT_THAT(table_row(html, "test", "tie"), HasSubstr("<td>–</td>"));
}

TEST_F(ReportTest, NamesTheFilesThatItCannotRead) {
  write_whole_run(true);
  write_file(folder_.step("merge-broken"), "{\"kind\": ");
  write_file(folder_.merged("tie", ".merge.json"), "[]");
  const auto alert = between(page(), "<div class=\"alert\"", "</div>");
  EXPECT_THAT(alert, HasSubstr("steps/merge-broken.json"));
  EXPECT_THAT(alert, HasSubstr("merged/tie.merge.json"));
}

TEST_F(ReportTest, LeavesOutWhatTheRecipeNoLongerHas) {
  write_whole_run(true);
  write_step("collect", "gone", {{"unobserved", json::array()}});
  const auto html = page();
  EXPECT_THAT(html, HasSubstr("the recipe no longer has them: <code>collect gone</code>"));
  EXPECT_THAT(section(html, "cost"), AllOf(HasSubstr("1 min 30 s"), Not(HasSubstr("gone"))));
}

TEST_F(ReportTest, RefusesAFolderThatIsNoRun) { EXPECT_THROW(write_report(folder_), InputError); }

}  // namespace
}  // namespace amalgam
