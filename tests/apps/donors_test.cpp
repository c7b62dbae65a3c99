// Intermediate-task merging through the command.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "apps/run_folder.h"
#include "apps/scores.h"
#include "apps/small_run.h"
#include "core/atomic_file.h"

namespace amalgam {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

json donor_step(const SmallRun& run, const std::string& target, const std::string& donor) {
  const RunFolder folder(run.run());
  return json::parse(read_file(folder.step("donor-regmean-" + target + "-" + donor)));
}

TEST(Donors, AreMergedIntoEveryOtherTaskWithTheWeightThatIsBestOnVal) {
  SmallRun run;
  run.edit("evaluate: {batch: 64}", "donors: [{method: regmean, weights: [0, 0.5]}]\nevaluate: {batch: 64}");
  const auto result = run.call("run");
  ASSERT_EQ(result.code, 0) << result.error;
  for (const auto& [target, donor] : {std::pair{"red", "blue"}, std::pair{"blue", "red"}}) {
    const json details = donor_step(run, target, donor).at("details");
    ASSERT_EQ(details.at("val").size(), 2U);
    const double without = details["val"][0][1], with = details["val"][1][1];
    EXPECT_EQ(details.at("weight").get<double>(), with > without ? 0.5 : 0.0);
    EXPECT_EQ(details.at("split"), "test");
    EXPECT_LE(details.at("interval")[0].get<double>(), details.at("interval")[1].get<double>());
    if (details.at("weight") == 0.0) {  // of weight 0 the donor changes nothing but rounding
      EXPECT_NEAR(details.at("value").get<double>(), details.at("expert").get<double>(), 0.005);
    }
  }
  EXPECT_THAT(read_file(run.run() / "report.html"), AllOf(HasSubstr("What a donor gives"), HasSubstr("#donors")));
  EXPECT_THAT(run.call("run").error, HasSubstr("donor regmean red blue: finished before, unchanged"));
}

TEST(Donors, OfTheTasksOwnWeightHaveTheScoresOfTheRowThatMergesBoth) {
  SmallRun run;
  run.edit("evaluate: {batch: 64}", "donors: [{method: regmean, weights: [1]}]\nevaluate: {batch: 64}");
  const auto result = run.call("run");
  ASSERT_EQ(result.code, 0) << result.error;
  const json red = donor_step(run, "red", "blue").at("details"), blue = donor_step(run, "blue", "red").at("details");
  int64_t found = 0;
  for (const auto& line : read_scores(RunFolder(run.run()).scores())) {
    if (line.method != "regmean" || (line.split != "val" && line.split != "test")) continue;
    ++found;
    const json& details = line.task == "red" ? red : blue;
    const double told = line.split == "test" ? details.at("value") : details.at("val")[0][1];
    // Into blue the experts come in the other order, which may round an example over to another class.
    EXPECT_NEAR(told, line.value, line.task == "red" ? 1e-12 : 0.01) << line.task << " " << line.split;
  }
  EXPECT_EQ(found, 4);
}

TEST(Donors, AreRefusedBeforeAnyWorkWhereTheyCannotBe) {
  for (const auto& [text, why] :
       {std::pair{"[{method: regmean, weights: []}]", "weights"},
        std::pair{"[{method: regmean, weights: [-1]}]", "weights"},
        std::pair{"[{method: regmean, search: {ridge: [0]}}]", "search"}, std::pair{"[regmeen]", "regmean"},
        std::pair{"[regmean, regmean]", "two rows"},
        std::pair{"[{method: slerp, weights: [0.3, 0]}]", "donors.slerp: 'blue' with weight 0"},
        std::pair{"[lora_average]", "donors.lora_average"}}) {
    SmallRun run;
    run.edit("evaluate: {batch: 64}", std::string("donors: ") + text + "\nevaluate: {batch: 64}");
    const auto result = run.call("run");
    EXPECT_EQ(result.code, 2) << text;
    EXPECT_THAT(result.error, HasSubstr(why)) << text;
    EXPECT_FALSE(std::filesystem::exists(run.run() / "base.pt")) << text;
  }
}

}  // namespace
}  // namespace amalgam
