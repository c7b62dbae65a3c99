#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "apps/recipe.h"
#include "apps/run_folder.h"

namespace amalgam {

/// The files, each about as large as the base, that a run has yet to make: base, experts and merged rows, as tensors
/// and, where they are not given, as TorchScript.
/// @param row  the name of one under `merge`, merged alone; empty: all rows
std::vector<std::filesystem::path> missing_models(const Recipe& recipe, const RunFolder& folder,
                                                  const std::string& row);

}  // namespace amalgam
