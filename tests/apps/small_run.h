#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/tensor_source.h"
#include "temporary_folder.h"

namespace amalgam {

/// What a call of the command gave.
struct CommandResult {
  int code = -1;
  std::string out, error;
};

/// Calls the command in this process.
CommandResult call_command(const std::vector<std::string>& arguments);

/// A folder with small colour images [N, 3, 6, 6] of three classes, seen in two lights, and a recipe over them with an
/// MLP: all of the main job within seconds.
class SmallRun {
 public:
  SmallRun();

  /// amalgam `command` recipe --runs … and further arguments.
  CommandResult call(const std::string& command, const std::vector<std::string>& arguments = {}) const;
  /// Puts `to` in the place of `from` in the recipe, which must hold it.
  void edit(const std::string& from, const std::string& to);

  std::filesystem::path recipe() const { return folder_ / "small.yaml"; }
  std::filesystem::path run() const { return folder_ / "runs" / "small"; }
  std::filesystem::path data(const std::string& task) const { return folder_ / task; }
  const TemporaryFolder& folder() const { return folder_; }

 private:
  TemporaryFolder folder_;
};

}  // namespace amalgam
