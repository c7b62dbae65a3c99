// Rows whose tasks keep a part of their own, through the command.
#include "core/task_parts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/script.h>

#include "apps/merge_record.h"
#include "apps/report_data.h"
#include "apps/run_folder.h"
#include "apps/scores.h"
#include "apps/small_run.h"
#include "core/atomic_file.h"
#include "models/artefact.h"

namespace amalgam {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kRows =
    "  - {method: tall, search: {mask_scale: [0.2, 0.5]}}\n"
    "  - {method: twin, rank: 2, inner: {method: regmean}}\n"
    "  - {method: twin, name: whole, rank: 1000}\n";

class TaskPartsRun : public ::testing::Test {
 protected:
  TaskPartsRun() {
    small_.edit("  - {method: task_arithmetic, search: {scale: [0.3, 0.5]}}\n  - fisher\n", kRows);
    small_.edit("  - mats\n", "");
  }

  void run() const {
    const auto result = small_.call("run");
    ASSERT_EQ(result.code, 0) << result.error;
  }

  std::filesystem::path merged(const std::string& row, const std::string& ending) const {
    return RunFolder(small_.run()).merged(row, ending);
  }

  NamedTensors reconstructed(const std::string& row, const std::string& task) const {
    const auto path = small_.folder() / (row + "." + task + ".pt");
    const auto result =
        call_command({"reconstruct", merged(row, ".pt").string(), "--task", task, "--output", path.string()});
    EXPECT_EQ(result.code, 0) << result.error;
    return tensors_of(*open_model(path, at::kCPU));
  }

  SmallRun small_;
};

TEST_F(TaskPartsRun, RebuildsEachTasksModelFromTheOneFile) {
  run();
  for (const std::string row : {"tall", "twin", "whole"}) {
    const SafetensorsFile shared(merged(row, ".safetensors"));
    const auto parts = open_task_parts(merged(row, ".tasks.safetensors"), shared);
    for (const std::string task : {"red", "blue"})
      for (const auto& [name, tensor] : reconstructed(row, task))
        EXPECT_TRUE(at::equal(tensor, with_part(shared, *parts, task, name))) << row << " " << task << " " << name;
  }
}

TEST_F(TaskPartsRun, OfFullRankTheExpertsAndTheirScoresComeBack) {
  run();
  for (const std::string task : {"red", "blue"}) {
    const SafetensorsFile expert(RunFolder(small_.run()).tensors(task));
    for (const auto& [name, tensor] : reconstructed("whole", task))
      EXPECT_TRUE(at::equal(tensor, expert.get(name))) << name;
  }
  int compared = 0;
  const auto scores = read_scores(RunFolder(small_.run()).scores());
  for (const auto& line : scores)
    for (const auto& expert : scores) {
      if (line.method != "whole" || expert.method != "expert" || line.task != expert.task || line.split != expert.split)
        continue;
      EXPECT_EQ(line.value, expert.value);
      EXPECT_EQ(line.loss, expert.loss);
      ++compared;
    }
  EXPECT_EQ(compared, 4);
}

TEST_F(TaskPartsRun, IsFinishedOnceAndShownInTheReport) {
  run();
  EXPECT_THAT(read_file(small_.run() / "report.html"),
              AllOf(HasSubstr("A model for each task, on disk"), HasSubstr("2 experts")));
  EXPECT_THAT(small_.call("run").error,
              AllOf(HasSubstr("merge tall: finished before"), HasSubstr("evaluate whole test: finished before")));
  std::filesystem::remove(merged("tall", ".tasks.safetensors"));
  run();
  EXPECT_TRUE(std::filesystem::exists(merged("tall", ".tasks.safetensors")));
}

/// Where the rank is full each task's part makes its expert of what is merged, whatever that is merged of.
TEST_F(TaskPartsRun, TakesSubsetsAndDonors) {
  small_.edit("evaluate: {batch: 64}",
              "donors: [{method: twin, rank: 1000, weights: [0.5]}]\nprotocol: {subsets: 2, sizes: [1]}\n"
              "evaluate: {batch: 64}");
  run();
  const auto record = read_run(RunFolder(small_.run()));
  EXPECT_EQ(record.of_kind("protocol").size(), 5U * 2) << "five rows, of each task";
  for (const std::string task : {"red", "blue"}) {
    const std::string other = task == "red" ? "blue" : "red";
    double expert = -1;
    for (const auto& line : record.scores)
      if (line.method == "expert" && line.task == task && line.split == "test") expert = line.value;
    const auto* donor = record.step("donor", "twin " + task + " " + other);
    ASSERT_NE(donor, nullptr);
    EXPECT_EQ(donor->details.at("value"), expert) << task;
    const auto* subset = record.step("protocol", "whole " + task);
    ASSERT_NE(subset, nullptr);
    int found = 0;
    for (const auto& line : subset->details.at("scores")) {
      if (line.at("task") != task) continue;
      EXPECT_EQ(line.at("value"), expert) << task;
      ++found;
    }
    EXPECT_EQ(found, 1) << task;
  }
}

TEST_F(TaskPartsRun, ARouterChoosesThePartOfEachExample) {
  small_.edit("name: whole, rank: 1000", "name: whole, rank: 1000, router: 50");
  run();
  // What each example gives with the part that `route` chooses, by the file itself.
  torch::jit::Module file = torch::jit::load(merged("whole", ".pt").string());
  const SafetensorsFile data(small_.data("blue") / "test.safetensors");
  const at::Tensor images = data.get("input.0");
  const at::Tensor shares = file.get_method("route")({images}).toTensor();
  EXPECT_LT((shares.sum(1) - 1).abs().max().item<double>(), 1e-12);
  const at::Tensor of_red = file.forward({"red", images}).toTensor(),
                   of_blue = file.forward({"blue", images}).toTensor();
  const at::Tensor is_red = shares.argmax(1).eq(0).unsqueeze(1);
  const at::Tensor right = at::where(is_red, of_red, of_blue).argmax(1).eq(data.get("target"));
  int found = 0;
  for (const auto& line : read_scores(RunFolder(small_.run()).scores())) {
    if (line.method != "whole, routed") continue;
    ++found;
    if (line.task != "blue" || line.split != "test") continue;
    EXPECT_NEAR(line.value, right.to(at::kDouble).mean().item<double>(), 1e-6);
  }
  EXPECT_EQ(found, 4);
  const auto record = merge_record(nlohmann::json::parse(read_file(merged("whole", ".merge.json"))));
  ASSERT_EQ(record.right_routes.size(), 2U);
  for (const auto& [task, share] : record.right_routes) EXPECT_GT(share, 0.6) << task;  // lights differ: not by chance
  EXPECT_THAT(read_file(small_.run() / "report.html"),
              AllOf(HasSubstr("whole, routed"), HasSubstr("sends to their own task")));

  for (const std::string task : {"red", "blue"}) {
    const SafetensorsFile expert(RunFolder(small_.run()).tensors(task));
    for (const auto& [name, tensor] : reconstructed("whole", task)) EXPECT_TRUE(at::equal(tensor, expert.get(name)));
  }
  EXPECT_THAT(small_.call("run").error, AllOf(HasSubstr("merge whole: finished before"),
                                              HasSubstr("evaluate whole, routed test: finished before")));
  small_.edit("router: 50", "router: 30");
  const auto again = small_.call("run");
  EXPECT_EQ(again.code, 0) << again.error;
  EXPECT_THAT(again.error, Not(HasSubstr("merge whole: finished before")));
}

TEST_F(TaskPartsRun, RefusesARouterThatHasNothingToChoose) {
  small_.edit("  - average\n", "  - {method: average, router: 10}\n");
  EXPECT_THAT(small_.call("run").error, HasSubstr("merge.average.router: 'average' makes one model of all tasks"));
  small_.edit("  - {method: average, router: 10}\n", "  - {method: average, name: 'whole, routed'}\n");
  small_.edit("name: whole, rank: 1000", "name: whole, rank: 1000, router: 50");
  EXPECT_THAT(small_.call("run").error, HasSubstr("what a router makes of another row"));
}

TEST_F(TaskPartsRun, RefusesWhatIsForOneModelOfAllTasks) {
  const auto hf = small_.call("merge", {"--method", "tall", "--write-hf", (small_.folder() / "hf").string()});
  EXPECT_EQ(hf.code, 2);
  EXPECT_THAT(hf.error, HasSubstr("amalgam reconstruct"));
  small_.edit("rank: 2,", "rank: 2, reset_batch_norms: 10,");
  const auto reset = small_.call("run");
  EXPECT_EQ(reset.code, 2);
  EXPECT_THAT(reset.error, HasSubstr("merge.twin.reset_batch_norms"));
  small_.edit("name: whole", "name: tall.tasks");
  small_.edit("rank: 2, reset_batch_norms: 10,", "rank: 2,");
  EXPECT_THAT(small_.call("run").error, HasSubstr("file of the parts of 'tall'"));
}

TEST_F(TaskPartsRun, ReconstructSaysWhatItCannotDo) {
  run();
  const auto error = [&](const std::string& file, const std::string& task, const std::string& output) {
    const auto result = call_command({"reconstruct", file, "--task", task, "--output", output});
    EXPECT_EQ(result.code, 2);
    return result.error;
  };
  const auto tall = merged("tall", ".pt").string(), fresh = (small_.folder() / "x.pt").string();
  EXPECT_THAT(error(tall, "rad", fresh), HasSubstr("'red'"));
  EXPECT_THAT(error(merged("average", ".pt").string(), "red", fresh), HasSubstr("one task"));
  EXPECT_THAT(error(tall, "red", tall), HasSubstr("there is such a file"));
  EXPECT_THAT(error(fresh, "red", fresh), HasSubstr("no such file"));
}

}  // namespace
}  // namespace amalgam
