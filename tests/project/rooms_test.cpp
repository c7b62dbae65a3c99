// The arrows between rooms go one way (docs/architecture.md): read from the #include lines.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>

namespace {

namespace fs = std::filesystem;

const std::map<std::string, std::set<std::string>> kMayInclude = {
    {"core", {"core"}},
    {"datasets", {"core", "datasets"}},
    {"models", {"core", "models"}},
    {"stats", {"core", "stats"}},
    {"solvers", {"core", "stats", "solvers"}},
    {"apps", {"core", "datasets", "models", "stats", "solvers", "apps"}},
};

/// Each source of ours with the files that it includes, by paths from the repository's root.
std::map<std::string, std::set<std::string>> includes() {
  const fs::path root = AMALGAM_SOURCE_DIR;
  const std::regex line_pattern(R"(^\s*#\s*include\s*[<"]([^>"]+)[>"])");
  std::map<std::string, std::set<std::string>> result;
  for (const auto& [room, allowed] : kMayInclude)
    for (const auto& entry : fs::recursive_directory_iterator(root / room)) {
      if (entry.path().extension() != ".h" && entry.path().extension() != ".cpp") continue;
      std::ifstream file(entry.path());
      auto& included = result[fs::relative(entry.path(), root).string()];
      for (std::string line; std::getline(file, line);) {
        std::smatch match;
        if (std::regex_search(line, match, line_pattern)) included.insert(match[1]);
      }
    }
  return result;
}

std::string room_of(const std::string& path) { return path.substr(0, path.find('/')); }

TEST(Rooms, IncludeOnlyWhatTheArchitectureAllows) {
  const auto all = includes();
  ASSERT_GT(all.size(), 50U);
  for (const auto& [file, included] : all)
    for (const auto& other : included) {
      if (!kMayInclude.contains(room_of(other))) continue;
      EXPECT_TRUE(kMayInclude.at(room_of(file)).contains(room_of(other))) << file << " includes " << other;
    }
}

TEST(Rooms, OnlyModelsKnowsTorchScript) {
  for (const auto& [file, included] : includes())
    for (const auto& other : included) {
      if (other != "torch/script.h" && !other.starts_with("torch/csrc/jit")) continue;
      EXPECT_EQ(room_of(file), "models") << file << " includes " << other;
    }
}

TEST(Rooms, OnlyOneFileKnowsTheTapsDispatchKey) {
  std::set<std::string> files;
  for (const auto& [file, included] : includes()) {
    std::ifstream stream(fs::path(AMALGAM_SOURCE_DIR) / file);
    const std::string text((std::istreambuf_iterator<char>(stream)), {});
    if (text.find("DispatchKey::TESTING_ONLY_GenericMode") != std::string::npos) files.insert(file);
  }
  EXPECT_EQ(files, std::set<std::string>{"models/tap_session.cpp"});
}

class CycleFinder {
 public:
  explicit CycleFinder(std::map<std::string, std::set<std::string>> graph) : graph_(std::move(graph)) {}

  /// A file that reaches itself, or an empty text.
  std::string find() {
    for (const auto& [file, included] : graph_)
      if (visit(file)) return file;
    return "";
  }

 private:
  bool visit(const std::string& file) {
    if (finished_.contains(file) || !graph_.contains(file)) return false;
    if (!open_.insert(file).second) return true;
    for (const auto& other : graph_.at(file))
      if (visit(other)) return true;
    open_.erase(file);
    finished_.insert(file);
    return false;
  }

  std::map<std::string, std::set<std::string>> graph_;
  std::set<std::string> open_, finished_;
};

TEST(Rooms, NoFileIncludesItselfThroughOthers) { EXPECT_EQ(CycleFinder(includes()).find(), ""); }

TEST(Rooms, TheCycleFinderFindsOne) { EXPECT_NE(CycleFinder({{"a", {"b"}}, {"b", {"c"}}, {"c", {"b"}}}).find(), ""); }

}  // namespace
