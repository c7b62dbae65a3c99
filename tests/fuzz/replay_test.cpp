// What fuzzers found once, and where they start from, through the same entries and with every compiler.
#include <gtest/gtest.h>

#include <filesystem>

#include "core/atomic_file.h"
#include "fuzz/entries.h"

namespace amalgam::fuzz {
namespace {

const std::filesystem::path kCorpus = std::filesystem::path(AMALGAM_SOURCE_DIR) / "tests/fuzz/corpus";

TEST(Fuzz, SeedsAreAccepted) {
  for (const auto& [entry, bytes] : seeds()) EXPECT_TRUE(entries().at(entry)(bytes)) << entry << ":\n" << bytes;
}

TEST(Fuzz, EveryEntryHasSeeds) {
  for (const auto& [name, entry] : entries()) EXPECT_TRUE(seeds().contains(name)) << name;
}

TEST(Fuzz, TheCorpusIsReadWithoutAFault) {
  for (const auto& [name, entry] : entries()) {
    if (!std::filesystem::exists(kCorpus / name)) continue;
    for (const auto& file : std::filesystem::directory_iterator(kCorpus / name)) {
      SCOPED_TRACE(file.path());
      EXPECT_NO_THROW(entry(read_file(file.path())));
    }
  }
}

TEST(Fuzz, SeedsCutOrChangedAnywhereAreReadWithoutAFault) {
  for (const auto& [name, bytes] : seeds())
    for (size_t at = 0; at < bytes.size(); at += 1 + bytes.size() / 200) {
      SCOPED_TRACE(testing::Message() << name << " at byte " << at << " of\n" << bytes);
      std::string changed = bytes;
      changed[at] = static_cast<char>(changed[at] ^ (1 << at % 8));
      EXPECT_NO_THROW(entries().at(name)(changed));
      EXPECT_NO_THROW(entries().at(name)(bytes.substr(0, at)));
    }
}

TEST(Fuzz, EveryFolderOfTheCorpusIsOfAnEntry) {
  for (const auto& folder : std::filesystem::directory_iterator(kCorpus))
    EXPECT_TRUE(entries().contains(folder.path().filename().string())) << folder.path();
}

}  // namespace
}  // namespace amalgam::fuzz
