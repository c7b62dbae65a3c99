#pragma once

#include <filesystem>

#include "apps/run_folder.h"

namespace amalgam {

/// Where a folder will lie that is renamed to `path`: absolute, links followed.
/// @throws InputError if nothing can be renamed to it: a link to nothing, the working directory, a mount point
std::filesystem::path replaceable_place(const std::filesystem::path& path);

/// A folder that is there whole or not at all: made beside its place, as `.NAME.unfinished`, and then renamed. Without
/// `commit` what was made goes away with the object; what a killed program left is removed by the next one that makes
/// the same folder.
class StagedFolder {
 public:
  /// @param path  not there yet, or an empty folder, or a link to one
  /// @throws InputError if no folder can be renamed to it (`replaceable_place`) or be made beside it, or if another
  ///         process makes the same one
  explicit StagedFolder(std::filesystem::path path);
  ~StagedFolder();
  StagedFolder(const StagedFolder&) = delete;
  StagedFolder& operator=(const StagedFolder&) = delete;

  /// Where the content goes.
  const std::filesystem::path& stage() const { return stage_; }
  /// Renames it; files must be synced already. An empty folder at the place is replaced.
  void commit();

 private:
  std::filesystem::path path_, stage_;
  FolderLock lock_;
};

}  // namespace amalgam
