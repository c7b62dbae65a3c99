#pragma once

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/pipeline.h"
#include "apps/recipe.h"
#include "apps/terminal.h"

namespace amalgam {

/// Of an option: whole numbers from `least` on.
CLI::Validator whole_number_from(int64_t least);

/// What every subcommand that reads a recipe takes.
struct RecipeArguments {
  std::string recipe, device, runs = "runs";
  std::vector<std::string> overrides;
  std::optional<int64_t> seed;
  int64_t threads = 0;
  bool quiet = false;

  void add_to(CLI::App& command);
  /// Reads the recipe, opens the run, checks all that can be checked before heavy work, and then works.
  /// @param parallel  several processes may do the work together, started by mpirun or srun: the others begin when the
  ///                  root has made the models. An error in one of them then ends all.
  /// @throws InputError from the reading and the checks; what goes wrong after them is FailedWhileRunning
  void run(const PipelineSelection& selection, const std::function<void(Pipeline&)>& work, bool parallel = false) const;
};

void add_run(CLI::App& app);
void add_finetune(CLI::App& app);
void add_collect(CLI::App& app);
void add_merge(CLI::App& app);
void add_evaluate(CLI::App& app);
void add_report(CLI::App& app);
void add_checkpoints(CLI::App& app);
void add_inspect(CLI::App& app);
void add_reconstruct(CLI::App& app);
void add_stats(CLI::App& app);
void add_methods(CLI::App& app);

}  // namespace amalgam
