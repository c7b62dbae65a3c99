#include "apps/commands/commands.h"

namespace amalgam {

void add_collect(CLI::App& app) {
  auto* command =
      app.add_subcommand("collect", "make the statistics (and before them the experts, where they are not there yet)");
  command->footer("Example:\n  amalgam collect configs/quickstart.yaml --task left --examples 500");
  auto arguments = std::make_shared<RecipeArguments>();
  auto selection = std::make_shared<PipelineSelection>();
  auto examples = std::make_shared<std::optional<int64_t>>();
  arguments->add_to(*command);
  command->add_option("--task", selection->task, "this task only");
  command->add_option("--examples", *examples, "examples a task; short for --set statistics.examples=N")
      ->check(CLI::PositiveNumber);
  command->callback([arguments, selection, examples] {
    if (*examples) arguments->overrides.push_back("statistics.examples=" + std::to_string(**examples));
    arguments->run(*selection, [](Pipeline& pipeline) {
      pipeline.collect();
      fmt::print("statistics: {}\n", (pipeline.folder().root() / "statistics").string());
    });
  });
}

}  // namespace amalgam
