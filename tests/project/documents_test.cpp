// The documents say what the program does: their commands exist, their method table is the registry.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <iterator>
#include <map>
#include <regex>
#include <set>
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

/// The words of each command of the documents' code blocks that calls amalgam; a command goes on after a backslash.
std::vector<std::vector<std::string>> commands() {
  std::vector<std::vector<std::string>> result;
  for (const auto& document : documents()) {
    std::istringstream text(read_file(document));
    bool code = false;
    for (std::string line, more; std::getline(text, line);) {
      if (line.starts_with("```")) code = !code;
      while (code && line.ends_with('\\') && std::getline(text, more)) {
        line.back() = ' ';
        line += more;
      }
      std::istringstream words(line);
      std::vector<std::string> all{std::istream_iterator<std::string>(words), {}};
      if (code && !all.empty() && (all[0] == "amalgam" || all[0] == "build/release/amalgam")) result.push_back(all);
    }
  }
  return result;
}

/// The options that a command's help declares; its sentences and examples may name others.
std::set<std::string> options_in(const std::string& help) {
  const std::regex declared(R"(\n  (?:-\w,)?(--[a-z-]+))");
  std::set<std::string> options;
  for (auto match = std::sregex_iterator(help.begin(), help.end(), declared); match != std::sregex_iterator(); ++match)
    options.insert((*match)[1].str());
  return options;
}

TEST(Documents, ShowCommandsThatExist) {
  std::map<std::string, std::string> help;
  const auto help_of = [&](const std::string& command) -> const std::string& {
    auto& text = help[command];
    if (text.empty()) text = output_of(std::string(AMALGAM_BINARY_DIR) + "/amalgam " + command + " --help");
    return text;
  };
  const auto all = commands();
  ASSERT_GT(all.size(), 8U);
  for (const auto& words : all) {
    ASSERT_GT(words.size(), 1U);
    if (words[1].starts_with("--")) continue;
    std::string command = words[1];
    if (help_of(command).find("\nSubcommands:") != std::string::npos) {
      ASSERT_GT(words.size(), 2U) << command;
      command += " " + words[2];
    }
    EXPECT_THAT(help_of(command), HasSubstr("Usage: amalgam " + command));
    const auto options = options_in(help_of(command));
    for (const auto& word : words) {
      if (!word.starts_with("--")) continue;
      EXPECT_TRUE(options.contains(word.substr(0, word.find('=')))) << "amalgam " << command << " " << word;
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
