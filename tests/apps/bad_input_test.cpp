// What bad input gets: one clear message, exit code 2, nothing half-written.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <torch/script.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <memory>

#include "apps/small_run.h"
#include "core/atomic_file.h"
#include "core/safetensors.h"
#include "models/runner.h"

namespace amalgam {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

/// Copies, so that the file can be written anew.
NamedTensors tensors_in(const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  NamedTensors tensors;
  for (const auto& [name, info] : file.infos()) tensors[name] = file.get(name).clone();
  return tensors;
}

class BadInput : public ::testing::Test {
 protected:
  /// Runs and expects code 2 with one message that holds these parts, and no model made.
  template <class... Parts>
  void refuses(const std::vector<std::string>& arguments, Parts... parts) {
    const auto result = small_.call("run", arguments);
    EXPECT_EQ(result.code, 2) << result.error;
    EXPECT_THAT(result.error, AllOf(HasSubstr("amalgam: "), HasSubstr(parts)...));
    EXPECT_EQ(std::count(result.error.begin(), result.error.end(), '\n'), 1) << result.error;
    EXPECT_FALSE(std::filesystem::exists(small_.run() / "base.pt"));
  }

  SmallRun small_;
};

TEST_F(BadInput, AMissingRecipe) {
  const auto result = call_command({"run", "none.yaml"});
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.error, HasSubstr("none.yaml"));
}

TEST_F(BadInput, NoSubcommandOrAnUnknownOption) {
  EXPECT_EQ(call_command({}).code, 2);
  EXPECT_EQ(call_command({"run", "--nonsense"}).code, 2);
}

TEST_F(BadInput, BrokenYamlNamesTheLine) {
  write_file(small_.recipe(), "name: x\nbase: {model: [\n");
  refuses({}, "small.yaml:");
}

TEST_F(BadInput, AnUnknownKeyNamesTheNearest) {
  small_.edit("examples: 100", "exampels: 100");
  refuses({}, "statistics.exampels", "did you mean 'examples'?");
}

TEST_F(BadInput, ATaskThatAnOptionOfAMethodNames) {
  refuses({"--set", "merge=[{method: passthrough, expert: rde}]"}, "merge.passthrough.expert", "known: red, blue");
}

TEST_F(BadInput, F1OfMoreThanTwoClasses) {
  small_.edit("  - name: red\n", "  - name: red\n    metric: f1\n");
  refuses({}, "tasks.red.metric", "the data have 3", "macro_f1");
}

TEST_F(BadInput, HeadsWithoutAnythingPrivate) {
  small_.edit("expert: {train: {steps: 30", "expert: {train: {heads: {steps: 5}, steps: 30");
  refuses({}, "tasks.red.expert.train.heads", "`private`");
}

TEST_F(BadInput, AReferenceThatIsNoRow) { refuses({"--set", "report.reference=regmeen"}, "did you mean 'regmean'?"); }

TEST_F(BadInput, ARowWhoseFilesWouldBeThoseOfTheBase) {
  small_.edit("  - average\n", "  - {method: average, name: base!}\n");
  refuses({}, "'base' and 'base!'");
}

TEST_F(BadInput, AnUnknownMethodNamesTheNearest) {
  small_.edit("- regmean", "- regmeen");
  refuses({}, "regmeen", "did you mean 'regmean'?");
}

TEST_F(BadInput, AnUnknownOptionOfAMethod) {
  small_.edit("- mats", "- {method: mats, dampning: 1}");
  refuses({}, "merge.mats.dampning", "did you mean 'damping'?");
}

TEST_F(BadInput, AnOptionOutOfRange) {
  refuses({"--set", "merge.mats.damping=-1"}, "merge.mats.damping", "out of range");
}

TEST_F(BadInput, TwoRowsOfOneName) {
  small_.edit("- fisher", "- mats");
  refuses({}, "two rows of the name 'mats'");
}

TEST_F(BadInput, ATaskNameThatIsNoIdentifier) {
  small_.edit("name: red", "name: red light");
  refuses({}, "red light");
}

TEST_F(BadInput, ATaskWithTheNameOfTheBase) {
  small_.edit("name: red", "name: base");
  refuses({}, "the name 'base'");
}

TEST_F(BadInput, AMissingDataFile) {
  std::filesystem::remove(small_.data("red") / "test.safetensors");
  refuses({}, "red", "test");
}

TEST_F(BadInput, ATruncatedDataFile) {
  const auto file = small_.data("red") / "train.safetensors";
  const auto whole = read_file(file);
  write_file(file, whole.substr(0, whole.size() - 100));
  refuses({}, file.string());
}

TEST_F(BadInput, LabelsThatAreNoClasses) {
  const auto file = small_.data("red") / "train.safetensors";
  auto tensors = tensors_in(file);
  tensors["target"][5] = -3;
  write_safetensors(file, tensors);
  refuses({}, file.string(), "-3");
}

TEST_F(BadInput, ADeviceThatIsNotThere) { refuses({"--device", "cuda:77"}, "cuda:77", "is not there"); }

TEST_F(BadInput, AModelFileThatIsNone) {
  write_file(small_.folder() / "garbage.pt", "garbage");
  refuses({"--set", "base.model=" + (small_.folder() / "garbage.pt").string()}, "garbage.pt");
}

TEST_F(BadInput, AModelThatTakesMoreThanTensorsUnderARouter) {
  torch::jit::Module module("Scaled");
  module.register_parameter("weight", at::ones({3, 3}), false);
  module.define("def forward(self, x: Tensor, power: int = 1):\n    return torch.pow(x.flatten(1), power)\n");
  module.save((small_.folder() / "power.pt").string());
  refuses({"--set", "base={model: " + (small_.folder() / "power.pt").string() + "}", "--set",
           "merge=[{method: twin, router: 5}]"},
          "power.pt", "power: int = 1", "leave `router` out");
}

TEST_F(BadInput, ASetThatMeansNothing) {
  refuses({"--set", "merge.nothing.scale=1"}, "nothing");
  refuses({"--set", "statistics"}, "key=value");
}

TEST_F(BadInput, ASplitThatIsNotScored) {
  const auto result = small_.call("evaluate", {"--split", "train"});
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.error, AllOf(HasSubstr("--split train"), HasSubstr("val, test"), HasSubstr("evaluate.splits")));
  EXPECT_FALSE(std::filesystem::exists(small_.run() / "base.pt"));
}

TEST_F(BadInput, StatisticsThatAreNotToBeCollected) {
  refuses({"--set", "statistics.kinds=[input_gram]"}, "merge.fisher", "'squared_gradient'", "statistics.kinds");
}

TEST_F(BadInput, ABatchThatIsLargerThanTheTrainSplit) {
  refuses({"--set", "base.train.batch=601"}, "base.train.batch", "600 examples");
  refuses({"--set", "tasks.blue.expert.train.batch=601"}, "tasks.blue.expert.train.batch", "600 examples");
}

TEST_F(BadInput, ParametersToTrainThatAreNotThere) {
  refuses({"--set", "tasks.red.expert.train.trainable=[\"haed.*\"]"}, "tasks.red.expert.train.trainable", "'haed.*'");
}

TEST_F(BadInput, TargetsThatAreNone) {
  small_.edit("merge:", "private: [\"head.*\"]\nmerge:");
  small_.edit("name: blue\n", "name: blue\n    loss: mean_squared_error\n    metric: r_squared\n");
  refuses({}, "tasks.blue: ", "do not fit");
}

TEST_F(BadInput, TargetsOutsideTheClassesOfTheBase) {
  const auto file = small_.data("blue") / "train.safetensors";
  auto tensors = tensors_in(file);
  tensors["target"][500] = 3;
  write_safetensors(file, tensors);
  refuses({}, "tasks.blue: ", "target 3", "3 classes (0 to 2)");
}

TEST_F(BadInput, AnInputThatIsNotFiniteIsNamedWhereItIsScored) {
  const auto file = small_.data("red") / "test.safetensors";
  auto tensors = tensors_in(file);
  tensors["input.0"][100].fill_(std::numeric_limits<float>::quiet_NaN());
  write_safetensors(file, tensors);
  const auto result = small_.call("evaluate", {"--set", "merge=[average]"});
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.error, AllOf(HasSubstr("task 'red', example 100 of test"), HasSubstr("not finite")));
}

TEST_F(BadInput, StatisticsOfOneExample) {
  small_.edit("root: " + small_.data("blue").string() + "}",
              "root: " + small_.data("blue").string() + ", max_examples: 1}");
  refuses({"--set", "tasks.blue.expert.train.batch=1"}, "tasks.blue: ", "at least two examples");
}

TEST_F(BadInput, OptionsThatAreNoWholeNumberInRange) {
  const auto seed = small_.call("run", {"--seed", "-1"}), threads = small_.call("run", {"--threads", "0.5"});
  EXPECT_EQ(seed.code, 2);
  EXPECT_THAT(seed.error, AllOf(HasSubstr("--seed"), HasSubstr("'-1': expected a whole number from 0")));
  EXPECT_EQ(threads.code, 2);
  EXPECT_THAT(threads.error, AllOf(HasSubstr("--threads"), HasSubstr("'0.5': expected a whole number from 1")));
}

TEST_F(BadInput, AFolderToInspectWithoutAModel) {
  const auto folder = small_.folder().path();
  const auto refused = call_command({"inspect", folder.string()});
  EXPECT_EQ(refused.code, 2);
  EXPECT_THAT(refused.error, HasSubstr(folder.string() + " is a folder; give a file in it"));
  std::filesystem::copy_file(small_.data("red") / "val.safetensors", folder / "model.safetensors");
  EXPECT_THAT(call_command({"inspect", folder.string()}).out, HasSubstr("input.0"));
}

TEST_F(BadInput, APrivatePatternThatNamesNothing) {
  small_.edit("tasks:", "private: [\"haed.*\"]\ntasks:");
  refuses({}, "private", "haed.*", "body.layers.0");
}

TEST_F(BadInput, EverythingPrivate) {
  small_.edit("tasks:", "private: [\"*\"]\ntasks:");
  refuses({}, "nothing is left to merge");
}

TEST_F(BadInput, ARowToMergeThatIsNotThere) {
  const auto result = small_.call("merge", {"--method", "matz"});
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.error, HasSubstr("did you mean 'mats'?"));
}

TEST_F(BadInput, NoPermissionToWrite) {
  write_file(small_.folder() / "file", "a file where a folder should be");
  const auto result = small_.call("run", {"--runs", (small_.folder() / "file").string()});
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.error, HasSubstr("cannot make the folder"));
}

TEST_F(BadInput, NoSpaceLeft) {
  const auto disk = small_.folder() / "disk";
  std::filesystem::create_directory(disk);
  if (::mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=32k") != 0) GTEST_SKIP() << "mounting a small disk needs root";
  const auto result = small_.call("run", {"--runs", disk.string()});
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.error, HasSubstr("free"));
  ::umount(disk.c_str());
}

class BadExperts : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    made_ = std::make_unique<SmallRun>();
    ASSERT_EQ(made_->call("finetune").code, 0);
  }
  static void TearDownTestSuite() { made_.reset(); }

  static CommandResult merge_with(const std::string& red) {
    const SmallRun given;
    write_file(
        given.recipe(),
        fmt::format("name: given\nbase: {{model: {0}/base.pt}}\ntasks:\n"
                    "  - {{name: red, data: {{format: tensors, root: {1}}}, expert: {{model: {3}}}}}\n"
                    "  - {{name: blue, data: {{format: tensors, root: {2}}}, expert: {{model: {0}/experts/blue.pt}}}}\n"
                    "merge: [average]\n",
                    made_->run().string(), made_->data("red").string(), made_->data("blue").string(), red));
    return given.call("run", {"--quiet"});
  }

  static std::unique_ptr<SmallRun> made_;
};

std::unique_ptr<SmallRun> BadExperts::made_;

TEST_F(BadExperts, ThatDifferInShapeAreNamed) {
  const SmallRun wider;
  ASSERT_EQ(wider.call("finetune", {"--set", "base.train.options.hidden=[17]"}).code, 0);
  const auto result = merge_with((wider.run() / "experts/red.pt").string());
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.error, AllOf(HasSubstr("red"), HasSubstr("head.weight"), HasSubstr("17")));
}

TEST_F(BadExperts, WithValuesThatAreNotFiniteAreRefused) {
  const auto path = made_->folder() / "nan.pt";
  const auto model = open_model(made_->run() / "experts/red.pt", at::kCPU);
  auto bias = model->parameters().at("head.bias").detach().clone();
  bias[0] = std::numeric_limits<float>::quiet_NaN();
  model->set({{"head.bias", bias}});
  model->save(path);
  const auto result = merge_with(path.string());
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.error, AllOf(HasSubstr("nan.pt"), HasSubstr("head.bias")));
}

TEST_F(BadExperts, ThatAreCutShortAreRefused) {
  const auto whole = read_file(made_->run() / "experts/red.pt");
  const auto path = made_->folder() / "cut.pt";
  write_file(path, whole.substr(0, whole.size() / 2));
  const auto result = merge_with(path.string());
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.error, HasSubstr("cut.pt"));
}

}  // namespace
}  // namespace amalgam
