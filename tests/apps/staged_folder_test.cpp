#include "apps/staged_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

#include "core/atomic_file.h"
#include "expect_error.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

TEST(StagedFolder, IsThereOnceItIsWhole) {
  const TemporaryFolder folder;
  fs::create_directory(folder / "out");  // an empty one is replaced
  StagedFolder staged(folder / "out/");
  write_file(staged.stage() / "a/b", "text");
  EXPECT_TRUE(fs::is_empty(folder / "out"));
  staged.commit();
  EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"out"});
  EXPECT_EQ(names_in(folder / "out"), std::vector<std::string>{"a"});
  EXPECT_EQ(read_file(folder / "out/a/b"), "text");
}

TEST(StagedFolder, IsThereBehindALink) {
  const TemporaryFolder folder;
  fs::create_directories(folder / "disk/out");
  fs::create_directory_symlink(folder / "disk/out", folder / "link");
  StagedFolder staged(folder / "link");
  write_file(staged.stage() / "a", "text");
  staged.commit();
  EXPECT_TRUE(fs::is_symlink(folder / "link"));
  EXPECT_EQ(names_in(folder / "disk"), std::vector<std::string>{"out"});
  EXPECT_EQ(read_file(folder / "link/a"), "text");
}

TEST(StagedFolder, RefusesWhatNothingCanBeRenamedTo) {
  const TemporaryFolder folder;
  fs::create_symlink(folder / "nowhere", folder / "link");
  EXPECT_THAT(input_error_of([&] { StagedFolder(folder / "link"); }), HasSubstr("a link to nothing"));
  EXPECT_THAT(input_error_of([] { StagedFolder("."); }), HasSubstr("the working directory"));
  EXPECT_THAT(input_error_of([] { StagedFolder("/proc"); }), HasSubstr("a mount point"));
  EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"link"});
}

TEST(StagedFolder, LeavesNothingWithoutCommit) {
  const TemporaryFolder folder;
  { write_file(StagedFolder(folder / "new/out").stage() / "a", "text"); }
  EXPECT_TRUE(fs::is_empty(folder / "new"));
}

TEST(StagedFolder, RemovesWhatAKilledProgramLeft) {
  const TemporaryFolder folder;
  write_file(folder / ".out.unfinished/model.safetensors", "half");
  write_file(folder / ".out.unfinished/a/b", "half");
  StagedFolder staged(folder / "out");
  write_file(staged.stage() / "config.json", "{}");
  staged.commit();
  EXPECT_EQ(names_in(folder / "out"), std::vector<std::string>{"config.json"});
}

TEST(StagedFolder, IsMadeByOneProcessAtATime) {
  const TemporaryFolder folder;
  std::optional<StagedFolder> first(std::in_place, folder / "out");
  EXPECT_THAT(input_error_of([&] { StagedFolder(folder / "out"); }), HasSubstr("another amalgam works in"));
  first.reset();
  StagedFolder(folder / "out").commit();
  EXPECT_TRUE(fs::is_empty(folder / "out"));
}

}  // namespace
}  // namespace amalgam
