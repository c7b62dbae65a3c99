#include "apps/commands/commands.h"

namespace amalgam {

void add_collect(CLI::App& app) {
  auto* command =
      app.add_subcommand("collect", "make the statistics (and before them the experts, where they are not there yet)");
  command->footer(
      "Examples:\n  amalgam collect configs/quickstart.yaml --task left --examples 500\n"
      "  amalgam collect configs/quickstart.yaml --plan\n  mpirun -n 4 amalgam collect configs/quickstart.yaml\n"
      "Stopped or killed, the same command goes on from the last saved progress.");
  auto arguments = std::make_shared<RecipeArguments>();
  auto selection = std::make_shared<PipelineSelection>();
  auto examples = std::make_shared<std::optional<int64_t>>();
  auto first = std::make_shared<std::optional<int64_t>>();
  auto memory = std::make_shared<std::string>();
  auto strict = std::make_shared<bool>(false), plan = std::make_shared<bool>(false);
  arguments->add_to(*command);
  command->add_option("--task", selection->task, "this task only");
  command->add_option("--examples", *examples, "examples a task; short for --set statistics.examples=N")
      ->check(whole_number_from(1));
  command->add_option("--first", *first, "the first of them; short for --set statistics.first=N")
      ->check(whole_number_from(0));
  command->add_option("--memory", *memory,
                      "that sums may take at a time, as 4GiB; short for --set statistics.memory=…");
  command->add_flag("--strict", *strict, "a merged parameter without a statistic is an error");
  command->add_flag("--plan", *plan, "only say what the statistics of each layer will take");
  command->callback([=] {
    if (*examples) arguments->overrides.push_back("statistics.examples=" + std::to_string(**examples));
    if (*first) arguments->overrides.push_back("statistics.first=" + std::to_string(**first));
    if (!memory->empty()) arguments->overrides.push_back("statistics.memory=" + *memory);
    if (*strict) arguments->overrides.push_back("statistics.strict=true");
    const auto work = [plan = *plan](Pipeline& pipeline) {
      if (plan) return pipeline.plan_statistics();
      pipeline.collect();
      if (pipeline.is_root()) fmt::print("statistics: {}\n", (pipeline.folder().root() / "statistics").string());
    };
    arguments->run(*selection, work, /*parallel=*/!*plan);
  });
}

}  // namespace amalgam
