#include "solvers/search/stepwise_search.h"

#include <gtest/gtest.h>

#include "core/atomic_file.h"
#include "core/error.h"
#include "solvers/interrupting_progress.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

/// Counts to ten.
class Counting final : public StepwiseSearch {
 public:
  bool is_done() const override { return count >= 10; }
  int64_t steps_done() const override { return count; }
  int64_t most_steps() const override { return 10; }
  std::string note() const override { return "at " + std::to_string(count); }
  void step(const Checkpoint& checkpoint) override {
    checkpoint();
    ++count;
    ++taken;
  }
  NamedTensors state() const override { return {{"count", at::full({1}, count, at::kLong)}}; }
  void resume(const NamedTensors& state) override {
    require_input(state.contains("count"), "no count");
    count = state.at("count").item<int64_t>();
  }

  int64_t count = 0, taken = 0;
};

class SteppedSearch : public testing::Test {
 protected:
  int64_t interrupted_at(int64_t update, const std::string& identity) {
    Counting search;
    test::InterruptingProgress progress(update);
    EXPECT_THROW(run_search(search, {progress, folder_.path(), "work"}, identity), Interrupted);
    return search.count;
  }
  /// Steps that a search still takes.
  int64_t finish(const std::string& work, const std::string& identity) {
    Counting search;
    SilentProgress progress;
    run_search(search, {progress, folder_.path(), work}, identity);
    EXPECT_EQ(search.count, 10);
    return search.taken;
  }
  std::filesystem::path file() const { return std::filesystem::directory_iterator(folder_.path())->path(); }

  TemporaryFolder folder_;
};

TEST_F(SteppedSearch, GoesOnWhereItWasStopped) {
  EXPECT_EQ(interrupted_at(8, "x"), 3);  // two updates a step
  EXPECT_EQ(finish("work", "x"), 7);
}

TEST_F(SteppedSearch, SaysThatItGoesOn) {
  interrupted_at(8, "x");
  Counting search;
  test::InterruptingProgress progress(0);
  run_search(search, {progress, folder_.path(), "work"}, "x");
  EXPECT_EQ(progress.messages, std::vector<std::string>{"search: goes on after 3 of 10"});
}

TEST_F(SteppedSearch, BeginsAnewWhereAnythingElseHasChanged) {
  interrupted_at(8, "x");
  EXPECT_EQ(finish("other work", "x"), 10);
  EXPECT_EQ(finish("work", "y"), 10);
  EXPECT_EQ(finish("work", "x"), 7);
}

TEST_F(SteppedSearch, KeepsTheStateOfAFinishedSearch) {
  EXPECT_EQ(finish("work", "x"), 10);
  EXPECT_EQ(finish("work", "x"), 0);
}

TEST_F(SteppedSearch, BeginsAnewWhereTheFileIsDamaged) {
  interrupted_at(8, "x");
  write_file(file(), "nothing of use");
  EXPECT_EQ(finish("work", "x"), 10);
}

TEST_F(SteppedSearch, KeepsNothingWithoutAFolder) {
  Counting search;
  test::InterruptingProgress progress(8);
  EXPECT_THROW(run_search(search, {progress}, "x"), Interrupted);
  EXPECT_EQ(search.count, 3);
}

}  // namespace
}  // namespace amalgam
