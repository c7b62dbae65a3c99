// The documents say what the program does: their commands exist, their method table is the registry.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <iterator>
#include <map>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include "core/atomic_file.h"

namespace amalgam {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

std::vector<fs::path> documents() {
  const fs::path root = AMALGAM_SOURCE_DIR;
  std::vector<fs::path> result = {root / "README.md"};
  for (const auto& entry : fs::directory_iterator(root / "docs"))
    if (entry.path().extension() == ".md") result.push_back(entry.path());
  return result;
}

std::string output_of(const std::string& command) {
  std::string output;
  FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  char chunk[4096];
  while (const size_t size = std::fread(chunk, 1, sizeof chunk, pipe)) output.append(chunk, size);
  ::pclose(pipe);
  return output;
}

/// The words of each line of the documents' code blocks that calls amalgam.
std::vector<std::vector<std::string>> commands() {
  std::vector<std::vector<std::string>> result;
  for (const auto& document : documents()) {
    std::istringstream text(read_file(document));
    bool code = false;
    for (std::string line; std::getline(text, line);) {
      if (line.starts_with("```")) code = !code;
      std::istringstream words(line);
      std::vector<std::string> all{std::istream_iterator<std::string>(words), {}};
      if (code && !all.empty() && (all[0] == "amalgam" || all[0] == "build/release/amalgam")) result.push_back(all);
    }
  }
  return result;
}

TEST(Documents, ShowCommandsThatExist) {
  const std::string program = std::string(AMALGAM_BINARY_DIR) + "/amalgam";
  std::map<std::string, std::string> help;
  const auto all = commands();
  ASSERT_GT(all.size(), 8U);
  for (const auto& words : all) {
    ASSERT_GT(words.size(), 1U);
    if (words[1].starts_with("--")) continue;
    auto& text = help[words[1]];
    if (text.empty()) text = output_of(program + " " + words[1] + " --help");
    EXPECT_THAT(text, HasSubstr("Usage: amalgam " + words[1])) << words[1];
    for (const auto& word : words) {
      if (!word.starts_with("--")) continue;
      EXPECT_THAT(text, HasSubstr(word.substr(0, word.find('=')))) << "amalgam " << words[1] << " " << word;
    }
  }
}

TEST(Documents, NameOnlyFilesThatExist) {
  const std::regex link(R"(\]\(([^)#:]+)(#[^)]*)?\))");
  for (const auto& document : documents()) {
    const auto text = read_file(document);
    for (auto match = std::sregex_iterator(text.begin(), text.end(), link); match != std::sregex_iterator(); ++match)
      EXPECT_TRUE(fs::exists(document.parent_path() / (*match)[1].str())) << document << " links to " << (*match)[1];
  }
}

TEST(Documents, MethodTablesAreTheRegistrys) {
  const auto tables = output_of(std::string(AMALGAM_BINARY_DIR) + "/amalgam methods --markdown");
  EXPECT_THAT(tables, HasSubstr("### mats"));
  EXPECT_THAT(read_file(fs::path(AMALGAM_SOURCE_DIR) / "docs/methods.md"), HasSubstr(tables))
      << "put what `amalgam methods --markdown` prints in docs/methods.md";
}

}  // namespace
}  // namespace amalgam
