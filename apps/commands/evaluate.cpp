#include "apps/commands/commands.h"

namespace amalgam {

void add_evaluate(CLI::App& app) {
  auto* command = app.add_subcommand("evaluate", "score base, experts and merged models (and before that make them)");
  command->footer("Example:\n  amalgam evaluate configs/quickstart.yaml --split val");
  auto arguments = std::make_shared<RecipeArguments>();
  auto selection = std::make_shared<PipelineSelection>();
  arguments->add_to(*command);
  command->add_option("--split", selection->split,
                      "this split only: val or test; default: the recipe's `evaluate.splits`");
  command->callback([arguments, selection] {
    const auto work = [](Pipeline& pipeline) {
      pipeline.evaluate();
      if (!pipeline.is_root()) return;
      fmt::print("{}", pipeline.table());
    };
    arguments->run(*selection, work, /*parallel=*/true);
  });
}

}  // namespace amalgam
