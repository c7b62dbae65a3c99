#include "apps/run_folder.h"

#include <gtest/gtest.h>

#include "core/atomic_file.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

using nlohmann::json;

/// A step that writes one file, and how often it did.
class StepsTest : public testing::Test {
 protected:
  json run(const json& inputs) {
    return steps_.run("train", "red", inputs, {output_}, [&] {
      ++runs_;
      write_file(output_, inputs.dump());
      return json{{"runs", runs_}};
    });
  }

  TemporaryFolder folder_;
  Terminal terminal_{/*quiet=*/true};
  Steps steps_{RunFolder(folder_.path()), at::kCPU, terminal_};
  const std::filesystem::path output_ = steps_.folder().expert("red");
  int runs_ = 0;
};

TEST_F(StepsTest, RunOnceForEqualInputsAndOutputs) {
  run({{"rate", 1}});
  EXPECT_EQ(run({{"rate", 1}}).at("details").at("runs"), 1);
  EXPECT_EQ(runs_, 1);
  run({{"rate", 2}});
  EXPECT_EQ(runs_, 2);
  write_file(output_, "something else");
  run({{"rate", 2}});
  EXPECT_EQ(runs_, 3);
}

TEST_F(StepsTest, RemoveWhatAKilledWriterLeftBesideTheirOutputs) {
  const auto left = output_.string() + ".aB3xYz", other = (output_.parent_path() / "blue.pt.aB3xYz").string();
  write_file(left, "half");
  write_file(other, "half");
  run({});
  EXPECT_FALSE(std::filesystem::exists(left));
  EXPECT_TRUE(std::filesystem::exists(other));
  EXPECT_TRUE(std::filesystem::exists(output_));
}

}  // namespace
}  // namespace amalgam
