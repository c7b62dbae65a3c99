#include "apps/staged_folder.h"

#include "core/atomic_file.h"
#include "core/error.h"

namespace amalgam {
namespace {

namespace fs = std::filesystem;

fs::path folder_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : fs::path("."); }

/// "out/" is "out".
fs::path without_end(const fs::path& path) { return path.filename().empty() ? path.parent_path() : path; }

}  // namespace

StagedFolder::StagedFolder(fs::path path)
    : path_(without_end(path)),
      stage_(folder_of(path_) / ("." + path_.filename().string() + ".unfinished")),
      lock_(stage_, "choose another place") {
  for (const auto& entry : fs::directory_iterator(stage_))
    if (entry.path().filename() != FolderLock::kFile) fs::remove_all(entry.path());
}

StagedFolder::~StagedFolder() {
  std::error_code ignored;
  fs::remove_all(stage_, ignored);
}

/// The lock goes last: while it is there, no other process takes the stage for what a killed one left.
void StagedFolder::commit() {
  sync_folder(stage_);
  fs::rename(stage_, path_);
  fs::remove(path_ / FolderLock::kFile);
  sync_folder(folder_of(path_));
}

}  // namespace amalgam
