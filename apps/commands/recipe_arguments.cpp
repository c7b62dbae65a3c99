#include "apps/commands/commands.h"
#include "core/device.h"
#include "core/error.h"

namespace amalgam {

void RecipeArguments::add_to(CLI::App& command) {
  command.add_option("recipe", recipe, "the recipe, a YAML file (configs/ holds some)")->required();
  command.add_option("--set", overrides,
                     "override a key of the recipe: --set statistics.examples=500, --set merge.mats.iterations=50 "
                     "(rows and tasks go by "
                     "their names); can be given many times");
  command.add_option("--device", device, "auto, cpu, cuda or cuda:<i>; default: the recipe's")->take_last();
  command.add_option("--seed", seed, "seed of every random draw; default: the recipe's")
      ->check(CLI::NonNegativeNumber)
      ->take_last();
  command.add_option("--threads", threads, "threads of the CPU; default: as many as there are")
      ->check(CLI::PositiveNumber)
      ->take_last();
  command.add_option("--runs", runs, "the folder that holds the runs' folders")->capture_default_str()->take_last();
  command.add_flag("--quiet", quiet, "no progress, no messages; results and errors only");
}

void RecipeArguments::run(const PipelineSelection& selection, const std::function<void(Pipeline&)>& work) const {
  auto all = overrides;
  if (!device.empty()) all.push_back("device=" + device);
  if (seed) all.push_back("seed=" + std::to_string(*seed));
  auto read = read_recipe(recipe, all);
  configure_numerics(threads);
  Terminal terminal(quiet);
  Pipeline pipeline(std::move(read), runs, selection, terminal);
  pipeline.check();
  try {
    work(pipeline);
  } catch (const InputError& error) {
    throw FailedWhileRunning(error.what());
  }
}

}  // namespace amalgam
