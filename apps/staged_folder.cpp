#include "apps/staged_folder.h"

#include <sys/stat.h>

#include "core/atomic_file.h"
#include "core/error.h"

namespace amalgam {
namespace {

namespace fs = std::filesystem;

fs::path folder_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : fs::path("."); }

/// "out/" is "out".
fs::path without_end(const fs::path& path) { return path.filename().empty() ? path.parent_path() : path; }

/// Whether another file system begins at a folder.
bool is_mount_point(const fs::path& folder) {
  using Status = struct stat;
  Status own{}, parent{};
  return ::stat(folder.c_str(), &own) == 0 && S_ISDIR(own.st_mode) && ::stat(folder_of(folder).c_str(), &parent) == 0 &&
         own.st_dev != parent.st_dev;
}

}  // namespace

fs::path replaceable_place(const fs::path& path) {
  std::error_code error, ignored;
  const fs::path whole = fs::absolute(path, error);
  const fs::path place = error ? whole : without_end(fs::weakly_canonical(whole, error));
  require_input(!error, "{}: {}; give another place", path.string(), error.message());
  require_input(!fs::is_symlink(fs::symlink_status(place, ignored)),
                "{}: it is a link to nothing; give another place, or remove it", path.string());
  require_input(!fs::equivalent(place, fs::current_path(ignored), ignored),
                "{}: it is the working directory, which the folder would take the place of; name a folder in it, or "
                "start elsewhere",
                path.string());
  require_input(!is_mount_point(place), "{}: it is a mount point, which nothing can be renamed to; name a folder in it",
                path.string());
  return place;
}

StagedFolder::StagedFolder(fs::path path)
    : path_(replaceable_place(path)),
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
