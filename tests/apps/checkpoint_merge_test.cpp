#include "apps/checkpoint_merge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "apps/small_run.h"
#include "core/atomic_file.h"
#include "core/error.h"
#include "core/sharded_safetensors.h"
#include "expect_error.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

/// Three small language models in bfloat16, in shards of odd sizes: a base and what two tasks made of it. Values are
/// multiples of 1/8, so that sums and halves are exact.
class CheckpointMergeTest : public testing::Test {
 protected:
  void SetUp() override {
    for (const auto& [name, shift] : std::map<std::string, double>{{"base", 0}, {"code", 1}, {"maths", 0.5}}) {
      NamedTensors& model = models_[name];
      model["model.embed_tokens.weight"] = tensor({11, 3}, 0, shift);
      model["model.layers.0.mlp.weight"] = tensor({5, 3}, 1, -shift);
      model["model.norm.weight"] = tensor({3}, 2, 2 * shift);
      model["position_ids"] = at::arange(7);
      write(name, 50);
    }
    write_file(folder_ / "base/config.json", "{\"model_type\": \"llama\"}");
    write_file(folder_ / "base/tokenizer.json", "{}");
    write_file(folder_ / "code/code.txt", "not of the base");
  }

  static at::Tensor tensor(at::IntArrayRef sizes, double first, double shift) {
    return (at::arange(c10::multiply_integers(sizes), at::kFloat) / 8 + first + shift).view(sizes).to(at::kBFloat16);
  }
  void write(const std::string& name, uint64_t shard_bytes) {
    write_safetensors_sharded(folder_ / name / "model.safetensors", MemoryTensors(models_.at(name)), {{"format", "pt"}},
                              shard_bytes);
  }

  CommandResult call(const std::string& method, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> all = {"checkpoints", "--base",   path("base"), "--expert", path("code"), "--expert",
                                    path("maths"), "--method", method,       "--output", path("out")};
    all.insert(all.end(), {"--device", "cpu"});
    all.insert(all.end(), more.begin(), more.end());
    return call_command(all);
  }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  at::Tensor merged(const std::string& name) const { return ModelFolder(folder_ / "out").tensors().get(name); }

  TemporaryFolder folder_;
  std::map<std::string, NamedTensors> models_;
};

TEST_F(CheckpointMergeTest, AveragesShardsOfOddSizesExactly) {
  const auto result = call("average", {"--shard-size", "40"});
  ASSERT_EQ(result.code, 0) << result.error;
  EXPECT_THAT(result.out, HasSubstr("merged model: "));
  for (const auto& [name, base] : models_.at("base")) {
    const double shift = name == "position_ids"          ? 0
                         : name.ends_with("mlp.weight")  ? -0.75
                         : name.ends_with("norm.weight") ? 1.5
                                                         : 0.75;
    const at::Tensor found = merged(name);
    EXPECT_EQ(found.scalar_type(), base.scalar_type()) << name;
    EXPECT_TRUE(at::equal(found, base + shift)) << name;
  }
  const ModelFolder out(folder_ / "out");
  EXPECT_EQ(out.tensors().infos(), MemoryTensors(models_.at("base")).infos());
  const auto files = out.weight_files();
  ASSERT_GT(files.size(), 2U);
  for (size_t i = 1; i < files.size(); ++i) EXPECT_EQ(SafetensorsFile(files[i]).metadata().at("format"), "pt");
}

TEST_F(CheckpointMergeTest, CopiesWhatLiesBesideTheBaseAndRecordsTheMerge) {
  ASSERT_EQ(call("ties", {"--option", "density=0.5", "--weight", "code=2", "--seed", "3"}).code, 0);
  EXPECT_EQ(names_in(folder_ / "out"),
            (std::vector<std::string>{"amalgam.json", "config.json", "model.safetensors", "tokenizer.json"}));
  EXPECT_EQ(read_file(folder_ / "out/config.json"), "{\"model_type\": \"llama\"}");
  const auto record = nlohmann::json::parse(read_file(folder_ / "out/amalgam.json"));
  const auto& inputs = record.at("inputs");
  EXPECT_EQ(inputs.at("method"), "ties");
  EXPECT_EQ(inputs.at("options").at("density"), "0.5");
  EXPECT_EQ(inputs.at("seed"), 3);
  EXPECT_EQ(inputs.at("experts").at(0).at("weight"), 2.0);
  EXPECT_EQ(inputs.at("experts").at(1).at("name"), "maths");
  EXPECT_EQ(record.at("report").at("merged"), 3);
}

TEST_F(CheckpointMergeTest, TakesTheFirstExpertsFilesWithoutABase) {
  const auto result = call_command({"checkpoints", "--expert", "c=" + path("code"), "--expert", "m=" + path("maths"),
                                    "--method", "{method: linear, weights: {c: 1, m: 0}}", "--output", path("out")});
  ASSERT_EQ(result.code, 0) << result.error;
  EXPECT_TRUE(fs::exists(folder_ / "out/code.txt"));
  EXPECT_TRUE(at::equal(merged("model.norm.weight"), models_.at("code").at("model.norm.weight")));
}

TEST_F(CheckpointMergeTest, MergesTiedTensorsOnce) {
  for (auto& [name, model] : models_) {
    model["lm_head.weight"] = model.at("model.embed_tokens.weight").clone();
    write(name, 1000);
  }
  ASSERT_EQ(call("{method: dare, drop: 0.5, inner: average}").code, 0);
  EXPECT_TRUE(at::equal(merged("lm_head.weight"), merged("model.embed_tokens.weight"))) << "one draw for both";
  EXPECT_FALSE(at::equal(merged("lm_head.weight"), models_.at("base").at("lm_head.weight") + 0.75));
}

TEST_F(CheckpointMergeTest, KnowsATiedTensorThatOnlySomeModelsHold) {
  models_.at("code")["lm_head.weight"] = models_.at("code").at("model.embed_tokens.weight").clone();
  write("code", 1000);
  const auto result = call("average");
  ASSERT_EQ(result.code, 0) << result.error;
  EXPECT_FALSE(ModelFolder(folder_ / "out").tensors().contains("lm_head.weight")) << "as the base has it";
}

TEST_F(CheckpointMergeTest, RefusesATensorThatOnlySomeHoldUnlessItIsPrivate) {
  models_.at("code")["score.weight"] = at::ones({2, 3}).to(at::kBFloat16);
  write("code", 1000);
  const auto refused = call("average");
  EXPECT_EQ(refused.code, 2);
  EXPECT_THAT(refused.error, AllOf(HasSubstr("score.weight"), HasSubstr("missing in"), HasSubstr("private")));
  EXPECT_FALSE(fs::exists(folder_ / "out"));
  ASSERT_EQ(call("average", {"--private", "score.*", "--private", "*norm*"}).code, 0);
  EXPECT_FALSE(ModelFolder(folder_ / "out").tensors().contains("score.weight"));
  EXPECT_TRUE(at::equal(merged("model.norm.weight"), models_.at("base").at("model.norm.weight")));
}

TEST_F(CheckpointMergeTest, RefusesOtherShapesAndDtypes) {
  models_.at("maths")["model.embed_tokens.weight"] = at::ones({12, 3}).to(at::kBFloat16);
  models_.at("maths")["model.norm.weight"] = at::ones({3});
  write("maths", 1000);
  EXPECT_THAT(call("average").error, AllOf(HasSubstr("bfloat16 [11, 3] in expert 'code', bfloat16 [12, 3]"),
                                           HasSubstr("float32 [3] in expert 'maths'")));
}

TEST_F(CheckpointMergeTest, FindsItselfDoneOrSaysWhatDiffers) {
  ASSERT_EQ(call("ties", {"--option", "density=0.5"}).code, 0);
  const auto written = fs::last_write_time(folder_ / "out/model.safetensors");
  const auto again = call("{method: ties, density: 0.5}");
  EXPECT_EQ(again.code, 0) << again.error;
  EXPECT_THAT(again.error, HasSubstr("finished before"));
  EXPECT_EQ(fs::last_write_time(folder_ / "out/model.safetensors"), written);

  const auto other = call("ties", {"--option", "density=0.25"});
  EXPECT_EQ(other.code, 2);
  EXPECT_THAT(other.error, AllOf(HasSubstr("options/density: \"0.5\" then, \"0.25\" now"), Not(HasSubstr("scale"))));
  write("code", 1000);
  EXPECT_THAT(call("ties", {"--option", "density=0.5"}).error, HasSubstr("experts/0/files"));
}

TEST_F(CheckpointMergeTest, DoesNotTakeADamagedFolderForDone) {
  ASSERT_EQ(call("average").code, 0);
  fs::resize_file(folder_ / "out/model.safetensors", 100);
  const auto result = call("average");
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.error, HasSubstr("out/model.safetensors"));
}

TEST_F(CheckpointMergeTest, LeavesWhatIsNotItsOwnAlone) {
  write_file(folder_ / "out/notes.txt", "mine");
  EXPECT_THAT(call("average").error, HasSubstr("it is there already"));
  EXPECT_EQ(read_file(folder_ / "out/notes.txt"), "mine");
}

TEST_F(CheckpointMergeTest, ChecksMethodAndOptionsFirst) {
  EXPECT_THAT(call("tiez").error, HasSubstr("did you mean 'ties'"));
  EXPECT_THAT(call("ties", {"--option", "densty=0.5"}).error, HasSubstr("ties.densty: unknown key, did you mean"));
  EXPECT_THAT(call("ties", {"--option", "density=2"}).error, HasSubstr("ties.density"));
  EXPECT_THAT(call("regmean").error, AllOf(HasSubstr("'input_gram'"), HasSubstr("tsv_m")));
  EXPECT_THAT(call("average", {"--weight", "cod=2"}).error, HasSubstr("no expert of this name"));
  EXPECT_THAT(call("average", {"--private", "norm"}).error, HasSubstr("--private: nothing fits 'norm'"));
  EXPECT_THAT(call("average", {"--expert", path("code")}).error, HasSubstr("two experts are called 'code'"));
  EXPECT_THAT(
      call_command({"checkpoints", "--expert", path("code"), "--method", "ties", "--output", path("out")}).error,
      HasSubstr("needs the base"));
  EXPECT_FALSE(fs::exists(folder_ / "out"));
}

TEST_F(CheckpointMergeTest, NamesADamagedShard) {
  const auto files = ModelFolder(folder_ / "maths").weight_files();
  write_file(files.back(), std::string(64, '\xff'));
  const auto result = call("average");
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.error, HasSubstr(files.back().filename().string()));
}

/// Stops at one update.
class Stopping final : public Progress {
 public:
  explicit Stopping(int left) : left_(left) {}
  void begin(const std::string&, int64_t) override {}
  void update(int64_t, const std::string&) override {
    if (left_-- == 0) throw Interrupted();
  }
  void end(const std::string&) override {}
  void message(const std::string&) override {}

 private:
  int left_;
};

TEST_F(CheckpointMergeTest, LeavesNothingWhereItIsStopped) {
  CheckpointRequest request;
  request.base = path("base");
  request.experts = {{"code", path("code")}, {"maths", path("maths")}};
  request.method = YAML::Load("{method: task_arithmetic}");
  request.output = path("out");
  request.shard_bytes = 40;
  const auto before = names_in(folder_.path());
  for (int at = 0; at < 3; ++at) {
    CheckpointMerge merge(request);
    Stopping progress(at);
    EXPECT_THROW(merge.run(progress), Interrupted) << at;
    EXPECT_EQ(names_in(folder_.path()), before) << at;
  }
}

TEST_F(CheckpointMergeTest, RemovesWhatAKilledOneLeftBeforeItLooksForSpace) {
  write_file(folder_ / ".out.unfinished/model.safetensors", "half");
  CheckpointRequest request;
  request.experts = {{"code", path("code")}, {"maths", path("maths")}};
  request.method = YAML::Load("{method: average}");
  request.output = path("out");
  const CheckpointMerge merge(request);
  EXPECT_FALSE(fs::exists(folder_ / ".out.unfinished/model.safetensors"));
}

TEST(CheckpointMerge, GivesTheTensorsOfARecipe) {
  const SmallRun small;
  ASSERT_EQ(small.call("merge", {"--method", "average"}).code, 0);
  const auto tensors = [&](const std::string& name) {
    return (small.run() / "tensors" / (name + ".safetensors")).string();
  };
  const auto result =
      call_command({"checkpoints", "--base", tensors("base"), "--expert", tensors("red"), "--expert", tensors("blue"),
                    "--method", "average", "--output", (small.folder() / "out").string()});
  ASSERT_EQ(result.code, 0) << result.error;
  const SafetensorsFile expected(small.run() / "merged/average.safetensors");
  const ModelFolder found(small.folder() / "out");
  ASSERT_EQ(found.tensors().infos(), expected.infos());
  for (const auto& [name, info] : expected.infos())
    EXPECT_TRUE(at::equal(found.tensors().get(name), expected.get(name))) << name;
}

}  // namespace
}  // namespace amalgam
