#include "core/atomic_file.h"

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <set>
#include <string>

#include "expect_error.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

using ::testing::HasSubstr;

TEST(AtomicFile, MakesItsFolderAndTheFile) {
  TemporaryFolder folder;
  write_file(folder / "a/b/c.txt", "text");
  EXPECT_EQ(read_file(folder / "a/b/c.txt"), "text");
}

TEST(AtomicFile, LeavesTheOldFileAndNothingElseWithoutCommit) {
  TemporaryFolder folder;
  write_file(folder / "a.txt", "old");
  {
    AtomicFile file(folder / "a.txt");
    file.write("new");
  }
  EXPECT_EQ(read_file(folder / "a.txt"), "old");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(AtomicFile, TakesAnotherNameBeforeItIsCommitted) {
  TemporaryFolder folder;
  AtomicFile file(folder / "a.txt");
  file.write("text");
  file.set_path(folder / "b.txt");
  file.commit();
  EXPECT_EQ(read_file(folder / "b.txt"), "text");
  EXPECT_FALSE(std::filesystem::exists(folder / "a.txt"));
}

TEST(AtomicFile, WhatKilledWritersLeftCanBeRemoved) {
  TemporaryFolder folder;
  for (const char* name : {"a.pt", "a.pt.aB3xYz", "a.pt.aB3xYz9", "a.pt.a-3xYz", "b.pt.aB3xYz"})
    write_file(folder / name, "x");
  remove_unfinished(folder / "a.pt");
  std::set<std::string> left;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path()))
    left.insert(entry.path().filename().string());
  EXPECT_EQ(left, (std::set<std::string>{"a.pt", "a.pt.aB3xYz9", "a.pt.a-3xYz", "b.pt.aB3xYz"}));
  remove_unfinished(folder / "none/a.pt");
}

TEST(AtomicFile, SaysThatNoSpaceIsLeftAndLeavesNothing) {
  TemporaryFolder folder;
  if (::mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=64k") != 0)
    GTEST_SKIP() << "mounting a small disk needs root";
  const auto error = input_error_of([&] { write_file(folder / "a.bin", std::string(1 << 20, 'x')); });
  EXPECT_THAT(error, HasSubstr("No space left"));
  EXPECT_THAT(error, HasSubstr("free some space"));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  ::umount(folder.path().c_str());
}

TEST(AtomicFile, SaysThatAFolderCannotBeMade) {
  TemporaryFolder folder;
  write_file(folder / "plain", "x");
  EXPECT_THAT(input_error_of([&] { write_file(folder / "plain/a.txt", "x"); }), HasSubstr("plain"));
}

TEST(ReadFile, RefusesAFolderAndAMissingFile) {
  TemporaryFolder folder;
  EXPECT_THAT(input_error_of([&] { read_file(folder.path()); }), HasSubstr("it is a folder"));
  EXPECT_THAT(input_error_of([&] { read_file(folder / "none"); }), HasSubstr("No such file"));
}

}  // namespace
}  // namespace amalgam
