// Experts whose private heads are fitted on the frozen base before the body is trained.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "apps/scores.h"
#include "apps/small_run.h"
#include "core/atomic_file.h"
#include "core/random.h"
#include "core/safetensors.h"
#include "models/runner.h"
#include "tests/apps/script_model.h"

namespace amalgam {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

/// The heads are private, and fitted first.
void edit_for_stages(SmallRun& small) {
  small.edit("tasks:", "private: [\"head.*\"]\ntasks:");
  for (int task = 0; task < 2; ++task)
    small.edit("expert: {train: {steps: 30", "expert: {train: {heads: {steps: 60, rate: 1e-2}, steps: 30");
}

json train_record(const SmallRun& small) { return json::parse(read_file(small.run() / "steps/train-red.json")); }

TEST(StagedTraining, MakesTheBaseRowTheBasesBodyUnderTheFittedHead) {
  SmallRun small;
  edit_for_stages(small);
  const auto result = small.call("run");
  ASSERT_EQ(result.code, 0) << result.error;
  const auto expert = open_model(small.run() / "experts/red.pt", at::kCPU);
  const auto base = open_model(small.run() / "base.pt", at::kCPU);
  auto body = base->parameters();
  std::erase_if(body, [](const auto& entry) { return entry.first.starts_with("head."); });
  expert->set(body);
  const SafetensorsFile data(small.data("red") / "test.safetensors");
  Batch batch;
  batch.inputs = {data.get("input.0")};
  const auto right = expert->forward(batch).argmax(1).eq(data.get("target")).to(at::kDouble).mean().item<double>();
  EXPECT_GT(right, 0.6);  // by chance 1/3
  int64_t scored = 0;
  for (const auto& line : read_scores(small.run() / "scores.jsonl")) {
    if (line.method != "base" || line.task != "red" || line.split != "test") continue;
    EXPECT_NEAR(line.value, right, 1e-9);
    ++scored;
  }
  EXPECT_EQ(scored, 1);
}

TEST(StagedTraining, RecordsAndDrawsBothStages) {
  SmallRun small;
  edit_for_stages(small);
  ASSERT_EQ(small.call("finetune").code, 0);
  const auto details = train_record(small).at("details");
  EXPECT_EQ(details.at("heads").at("curve").back().at("step"), 60);
  EXPECT_EQ(details.at("curve").back().at("step"), 30);
  ASSERT_EQ(call_command({"report", small.run().string()}).code, 0);
  EXPECT_THAT(read_file(small.run() / "report.html"), HasSubstr("private parameters alone"));
}

TEST(StagedTraining, LeavesTheInputsOfStepsWithoutItAsTheyWere) {
  const SmallRun small;
  ASSERT_EQ(small.call("finetune").code, 0);
  const auto inputs = train_record(small).at("inputs");
  EXPECT_FALSE(inputs.contains("heads"));
  EXPECT_THAT(inputs.at("train").get<std::string>(),
              AllOf(HasSubstr("evaluate_every: 0"), Not(HasSubstr("patience")), Not(HasSubstr("heads"))));
}

/// A given base with dropout, whose draws are LibTorch's own.
void give_base_with_dropout(SmallRun& small) {
  auto generator = RandomStream(3, "weights").generator();
  script_model(
      {{"body.weight", 0.1 * at::randn({16, 108}, generator)}, {"head.weight", 0.1 * at::randn({3, 16}, generator)}},
      R"(
def forward(self, x):
    h = torch.relu(torch.linear(torch.flatten(x, 1), self.body.weight))
    return torch.linear(torch.dropout(h, 0.5, True), self.head.weight)
)")
      ->save(small.folder() / "dropout.pt");
  write_file(small.recipe(),
             fmt::format("name: small\nseed: 1\nprivate: [\"head.*\"]\nbase: {{model: {0}/dropout.pt}}\ntasks:\n"
                         "  - name: red\n    data: {{format: tensors, root: {0}/red}}\n    expert: {{train: {{heads: "
                         "{{steps: 10}}, steps: 20, batch: 32}}}}\nmerge: [average]\n",
                         small.folder().path().string()));
}

TEST(StagedTraining, OfAGivenBaseDrawsItsDropoutByTheSeed) {
  SmallRun first, second;
  for (auto* small : {&first, &second}) {
    give_base_with_dropout(*small);
    const auto result = small->call("finetune");
    ASSERT_EQ(result.code, 0) << result.error;
  }
  EXPECT_EQ(read_file(first.run() / "tensors/red.safetensors"), read_file(second.run() / "tensors/red.safetensors"));
}

TEST(Training, OfExpertsIsDoneAgainWithOtherPrivateParameters) {
  SmallRun small;
  ASSERT_EQ(small.call("finetune").code, 0);
  small.edit("tasks:", "private: [\"head.*\"]\ntasks:");  // so experts begin with heads of their own
  const auto result = small.call("finetune");
  ASSERT_EQ(result.code, 0) << result.error;
  EXPECT_THAT(result.error,
              AllOf(HasSubstr("train base: finished before"), Not(HasSubstr("train red: finished before"))));
}

TEST(StagedTraining, IsDoneAgainWithAnotherPatience) {
  SmallRun small;
  edit_for_stages(small);
  ASSERT_EQ(small.call("finetune").code, 0);
  const auto again = small.call("finetune");
  EXPECT_THAT(again.error, HasSubstr("train red: finished before"));
  const auto patient = small.call("finetune", {"--set", "tasks.red.expert.train.patience=2"});
  ASSERT_EQ(patient.code, 0) << patient.error;
  EXPECT_THAT(patient.error, Not(HasSubstr("train red: finished before")));
  EXPECT_THAT(patient.error, HasSubstr("train blue: finished before"));
}

}  // namespace
}  // namespace amalgam
