#include <cstdio>

#include "apps/commands/commands.h"
#include "core/device.h"
#include "core/error.h"

namespace amalgam {

CLI::Validator whole_number_from(int64_t least) {
  const auto refusal = [least](const std::string& text) {
    int64_t number = 0;
    const bool fits = CLI::detail::lexical_cast(text, number) && number >= least;
    return fits ? std::string() : fmt::format("'{}': expected a whole number from {}", text, least);
  };
  return {refusal, fmt::format(">= {}", least)};
}

void RecipeArguments::add_to(CLI::App& command) {
  command.add_option("recipe", recipe, "the recipe, a YAML file (configs/ holds some)")->required();
  command.add_option("--set", overrides,
                     "override a key of the recipe: --set statistics.examples=500, --set merge.mats.iterations=50 "
                     "(rows and tasks go by "
                     "their names); can be given many times");
  command.add_option("--device", device, "auto, cpu, cuda or cuda:<i>; default: the recipe's")->take_last();
  command.add_option("--seed", seed, "seed of every random draw; default: the recipe's")
      ->check(whole_number_from(0))
      ->take_last();
  command.add_option("--threads", threads, "threads of the CPU; default: as many as there are")
      ->check(whole_number_from(1))
      ->take_last();
  command.add_option("--runs", runs, "the folder that holds the runs' folders")->capture_default_str()->take_last();
  command.add_flag("--quiet", quiet, "no progress, no messages; results and errors only");
}

namespace {

/// The other processes wait until the root has checked the recipe and made what it needs, or has failed.
constexpr const char* kReady = "ready";

void work_alone(Pipeline& pipeline, const std::function<void(Pipeline&)>& work) {
  try {
    work(pipeline);
  } catch (const InputError& error) {
    throw FailedWhileRunning(error.what());
  }
}

/// What goes wrong in one process, after the checks, ends all of them.
void work_together(const ProcessGroup& group, Pipeline& pipeline, const std::function<void(Pipeline&)>& work) {
  try {
    work_alone(pipeline, work);
  } catch (const Interrupted&) {
    throw;  // all have been stopped at the same place; if not, the launcher ends those that wait for this one
  } catch (const std::exception& error) {
    std::fputs(fmt::format("amalgam: process {} of {}: {}\n", group.rank(), group.size(), error.what()).c_str(),
               stderr);
    group.abort(1);
  }
}

}  // namespace

void RecipeArguments::run(const PipelineSelection& selection, const std::function<void(Pipeline&)>& work,
                          bool parallel) const {
  auto all = overrides;
  if (!device.empty()) all.push_back("device=" + device);
  if (seed) all.push_back("seed=" + std::to_string(*seed));
  const ProcessGroup group;
  require_input(
      parallel || group.size() == 1,
      "{} processes were started, but this works in one; `amalgam collect`, `merge`, `evaluate` and `run` work in "
      "several",
      group.size());
  const auto open = [&](Terminal& terminal) {
    auto read = read_recipe(recipe, all);
    if (group.size() > 1) read.device = device_of_process(read.device, group.local_rank());
    configure_numerics(threads);
    auto pipeline = std::make_unique<Pipeline>(std::move(read), runs, selection, group, terminal);
    pipeline->check();
    return pipeline;
  };
  Terminal terminal(quiet || !group.is_root());
  if (group.size() == 1) return work_alone(*open(terminal), work);

  std::unique_ptr<Pipeline> pipeline;
  if (group.is_root()) {
    try {
      pipeline = open(terminal);
      work_alone(*pipeline, [](Pipeline& made) { made.make_models(); });
    } catch (...) {
      group.broadcast("");
      throw;
    }
    group.broadcast(kReady);
  } else {
    if (group.broadcast("") != kReady) throw CLI::RuntimeError(1);  // the root says why
    pipeline = open(terminal);
  }
  work_together(group, *pipeline, work);
}

}  // namespace amalgam
