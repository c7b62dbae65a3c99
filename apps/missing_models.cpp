#include "apps/missing_models.h"

#include "core/sharded_safetensors.h"

namespace amalgam {

namespace fs = std::filesystem;

std::vector<fs::path> missing_models(const Recipe& recipe, const RunFolder& folder, const std::string& row) {
  std::vector<fs::path> files = {folder.tensors("base")};
  if (recipe.base.model.empty()) files.push_back(folder.base());
  for (const auto& task : recipe.tasks) {
    files.push_back(folder.tensors(task.name));
    if (task.expert.model.empty()) files.push_back(folder.expert(task.name));
  }
  for (const auto& merged : recipe.merge) {
    if (!row.empty() && merged.name != row) continue;
    for (const char* ending : {".pt", ".safetensors"}) files.push_back(folder.merged(merged.name, ending));
  }
  std::erase_if(files, [](const fs::path& file) { return fs::exists(stored_safetensors(file)); });
  return files;
}

}  // namespace amalgam
