// Collecting as a user does it: plans, budgets, parts, forms, strictness.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apps/small_run.h"
#include "core/atomic_file.h"
#include "stats/statistics.h"
#include "tests/apps/script_model.h"

namespace amalgam {
namespace {

using testing::HasSubstr;
using testing::Not;

class CollectCommand : public testing::Test {
 protected:
  /// Collects task red's statistics and gives the bytes of the file.
  std::string collected(const std::vector<std::string>& arguments) {
    std::vector<std::string> all = {"--task", "red"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    const auto result = small_.call("collect", all);
    EXPECT_EQ(result.code, 0) << result.error;
    error_ = result.error;
    return read_file(file_);
  }

  SmallRun small_;
  std::filesystem::path file_ = small_.run() / "statistics" / "red.safetensors";
  std::string error_;
};

TEST_F(CollectCommand, PlansWithoutCollecting) {
  const auto result = small_.call("collect", {"--plan"});
  EXPECT_EQ(result.code, 0) << result.error;
  EXPECT_THAT(result.out, HasSubstr("squared gradient"));
  EXPECT_THAT(result.out, HasSubstr("in the finished file:"));
  EXPECT_FALSE(std::filesystem::exists(file_));
  EXPECT_FALSE(std::filesystem::exists(small_.run() / "base.pt")) << "nor training";
}

TEST_F(CollectCommand, RowsOneAfterAnotherKeepWhatIsThere) {
  const auto merged = [&](const std::string& row) { return small_.call("merge", {"--method", row}).error; };
  merged("regmean");
  EXPECT_THAT(merged("fisher"), Not(HasSubstr("collect red: finished before")));
  EXPECT_THAT(merged("fisher"), HasSubstr("collect red: finished before, unchanged"));
  EXPECT_THAT(merged("regmean"), HasSubstr("collect red: finished before, unchanged"));
  small_.edit("  - regmean\n", "");  // what is left needs less
  EXPECT_THAT(small_.call("collect").error, Not(HasSubstr("collect red: finished before"))) << "mats needs more";
  small_.edit("  - fisher\n", "");
  EXPECT_THAT(small_.call("collect").error, HasSubstr("collect red: finished before, unchanged"));
}

TEST_F(CollectCommand, InPassesOrAMappedFileComesToTheSameFile) {
  const std::string whole = collected({});
  EXPECT_THAT(error_, HasSubstr("in 1 pass"));
  std::filesystem::remove(file_);
  EXPECT_EQ(collected({"--memory", "111kB"}), whole);
  EXPECT_THAT(error_, HasSubstr("pass 2 of 2"));
  std::filesystem::remove(file_);
  EXPECT_EQ(collected({"--set", "statistics.place=file"}), whole);
}

TEST_F(CollectCommand, ABudgetThatNoPassFitsInIsRefusedNamingTheLayer) {
  const auto result = small_.call("collect", {"--memory", "1kB"});
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.error, HasSubstr("the statistics of layer '"));
}

TEST_F(CollectCommand, ASizeThatIsNoneIsRefused) {
  const auto result = small_.call("collect", {"--memory", "much"});
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.error, HasSubstr("statistics.memory: expected a size in bytes"));
}

TEST_F(CollectCommand, PartsAddUpToTheWhole) {
  const auto part = [&](const char* first, const char* examples) {
    collected({"--first", first, "--examples", examples});
    const auto path = small_.folder() / (std::string("part-") + first + ".safetensors");
    std::filesystem::rename(file_, path);
    return path.string();
  };
  const std::string a = part("0", "64"), b = part("64", "36"), sum = (small_.folder() / "sum.safetensors").string();
  EXPECT_EQ(call_command({"stats", "add", a, b, "-o", sum}).code, 0);
  collected({"--examples", "100"});
  const auto same = call_command({"stats", "diff", sum, file_.string(), "--tolerance", "1e-6"});
  EXPECT_EQ(same.code, 0) << same.out;
  const auto refused = call_command({"stats", "add", a, file_.string(), "-o", sum});
  EXPECT_EQ(refused.code, 2);
  EXPECT_THAT(refused.error, HasSubstr("overlap"));
}

TEST_F(CollectCommand, AFirstExampleBehindTheLastIsRefused) {
  const auto result = small_.call("collect", {"--first", "600"});
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.error, HasSubstr("statistics.first: task 'red' has 600 examples"));
  EXPECT_FALSE(std::filesystem::exists(small_.run() / "base.pt"));
}

TEST_F(CollectCommand, MergesByTheReducedFormAndByBlocks) {
  small_.edit("  - mats\n",
              "  - mats\n  - {method: mats, name: reduced, factors: kronecker_reduced}\n"
              "  - {method: mats, name: other, damping: 2}\n");
  const auto result = small_.call("merge", {"--set", "statistics.block_size=20"});
  EXPECT_EQ(result.code, 0) << result.error;
  EXPECT_TRUE(std::filesystem::exists(small_.run() / "merged" / "reduced.pt"));
  const auto statistics = Statistics::load(file_);
  EXPECT_EQ(statistics.header().blocks, (std::map<std::string, int64_t>{{"body.layers.0/input_gram", 20},
                                                                        {"body.layers.0/reduced_input_gram", 20}}))
      << "the only matrices that are wider";
  EXPECT_TRUE(statistics.header().kinds.contains(StatisticKind::kReducedOutputGram));
}

/// Given experts with a parameter that meets an operator that is not observed.
class StrictCollecting : public CollectCommand {
 protected:
  StrictCollecting() {
    for (const std::string name : {"base", "red", "blue"})
      script_model({{"scale", at::ones({3})}, {"fc.weight", at::randn({3, 108}) * 0.1}, {"fc.bias", at::zeros({3})}},
                   R"(
def forward(self, x):
    return torch.linear(x.flatten(1), self.fc.weight, self.fc.bias) * torch.sin(self.scale)
)")
          ->save(small_.folder() / (name + ".pt"));
    const auto folder = small_.folder().path().string();
    given_ = {"--set", "base={model: " + folder + "/base.pt}",
              "--set", "tasks.red.expert={model: " + folder + "/red.pt}",
              "--set", "tasks.blue.expert={model: " + folder + "/blue.pt}"};
  }

  std::vector<std::string> with(const std::string& argument) const {
    auto all = given_;
    if (!argument.empty()) all.push_back(argument);
    return all;
  }

  std::vector<std::string> given_;
};

TEST_F(StrictCollecting, NamesWhatIsNotObservedWithItsOperatorAndGoesOn) {
  const auto result = small_.call("collect", with(""));
  EXPECT_EQ(result.code, 0) << result.error;
  EXPECT_THAT(result.error, HasSubstr("not observed: scale: used by aten::sin"));
}

TEST_F(StrictCollecting, RefusesToGoOnWithout) {
  const auto result = small_.call("collect", with("--strict"));
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.error, HasSubstr("scale: used by aten::sin"));
  EXPECT_FALSE(std::filesystem::exists(file_));
}

TEST_F(StrictCollecting, PassesOverPrivateParameters) {
  auto arguments = with("--strict");
  arguments.insert(arguments.end(), {"--set", "private=[scale]"});
  const auto result = small_.call("collect", arguments);
  EXPECT_EQ(result.code, 0) << result.error;
}

}  // namespace
}  // namespace amalgam
