// Intermediate-task merging through the command.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "apps/run_folder.h"
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
