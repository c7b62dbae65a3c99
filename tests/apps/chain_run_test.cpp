// Rows of several methods, each going on from the model of the one before, through the command.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apps/run_folder.h"
#include "apps/small_run.h"
#include "core/atomic_file.h"
#include "core/safetensors.h"

namespace amalgam {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kRows =
    "  - {method: passthrough, expert: red, name: reached, then: {method: task_arithmetic, scale: 1}}\n"
    "  - {method: average, name: around, then: {method: task_arithmetic, scale: 0.7}}\n"
    "  - {method: average, name: searched, then: {method: task_arithmetic, search: {scale: [0, 1]}}}\n"
    "  - {method: regmean, name: solved, then: {method: mats, damping: 1, tolerance: 1e-10}}\n";

class ChainRun : public ::testing::Test {
 protected:
  ChainRun() {
    small_.edit("  - {method: task_arithmetic, search: {scale: [0.3, 0.5]}}\n  - fisher\n", kRows);
    small_.edit("  - mats\n", "  - {method: mats, damping: 1, tolerance: 1e-10}\n");
  }

  SafetensorsFile merged(const std::string& row) const {
    return SafetensorsFile(RunFolder(small_.run()).merged(row, ".safetensors"));
  }
  void expect_close(const TensorSource& a, const TensorSource& b, double tolerance) const {
    for (const auto& [name, info] : a.infos())
      EXPECT_LT((a.get(name) - b.get(name)).abs().max().item<double>(), tolerance) << name;
  }

  SmallRun small_;
};

TEST_F(ChainRun, GoesOnFromTheModelBeforeInTheBasesPlace) {
  const auto result = small_.call("run");
  ASSERT_EQ(result.code, 0) << result.error;
  // red + (red − red) + (blue − red) = blue
  const auto reached = merged("reached");
  const SafetensorsFile blue(RunFolder(small_.run()).tensors("blue"));
  for (const auto& [name, info] : reached.infos())
    EXPECT_LT((reached.get(name) - blue.get(name)).abs().max().item<double>(), 1e-6) << name;
  // Changes from the mean add up to nothing.
  expect_close(merged("around"), merged("average"), 1e-6);
  expect_close(merged("searched"), merged("average"), 1e-6);
  // What MaTS solves does not depend on where its changes are counted from; damped, it leaves no output to the start.
  expect_close(merged("solved"), merged("mats"), 1e-4);
  EXPECT_THAT(read_file(RunFolder(small_.run()).merged("around", ".merge.json")),
              HasSubstr("then: {method: task_arithmetic"));
  for (const auto& file : std::filesystem::directory_iterator(small_.run() / "merged"))
    EXPECT_THAT(file.path().filename().string(), Not(HasSubstr("earlier")));

  const auto again = small_.call("run");
  EXPECT_THAT(again.error, HasSubstr("merge around: finished before, unchanged"));
  small_.edit("name: around, then: {method: task_arithmetic, scale: 0.7}", "name: around, then: {method: ties}");
  const auto other = small_.call("run");
  ASSERT_EQ(other.code, 0) << other.error;
  EXPECT_THAT(other.error, Not(HasSubstr("merge around: finished before")));
}

TEST_F(ChainRun, LeavesARowAloneThatIsCalledEarlier) {
  small_.edit("  - regmean\n",
              "  - {method: average, name: a.earlier}\n  - {method: average, name: a, then: {method: ties}}\n");
  for (const char* row : {"average", "a.earlier", "a"}) {
    const auto result = small_.call("merge", {"--method", row});
    ASSERT_EQ(result.code, 0) << result.error;
  }
  expect_close(merged("a.earlier"), merged("average"), 1e-12);
}

TEST_F(ChainRun, FindsWrongTasksBeforeAnyWork) {
  small_.edit("method: passthrough, expert: red", "method: passthrough, expert: rod");
  const auto result = small_.call("run");
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.error, HasSubstr("rod"));
}

}  // namespace
}  // namespace amalgam
