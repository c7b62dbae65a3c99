#include "apps/commands/commands.h"

namespace amalgam {

void add_evaluate(CLI::App& app) {
  auto* command = app.add_subcommand("evaluate", "score base, experts and merged models (and before that make them)");
  command->footer("Example:\n  amalgam evaluate configs/quickstart.yaml --split val");
  auto arguments = std::make_shared<RecipeArguments>();
  auto selection = std::make_shared<PipelineSelection>();
  arguments->add_to(*command);
  command->add_option("--split", selection->split,
                      "this split only, one of the recipe's `evaluate.splits`; default: all of them");
  auto predictions = std::make_shared<bool>(false);
  command->add_flag("--predictions", *predictions,
                    "keep what each model says of each example (predictions/<row>/<task>.<split>.safetensors)");
  command->callback([arguments, selection, predictions] {
    if (*predictions) arguments->overrides.push_back("evaluate.predictions=true");
    const auto work = [](Pipeline& pipeline) {
      pipeline.evaluate();
      if (!pipeline.is_root()) return;
      fmt::print("{}", pipeline.table());
    };
    arguments->run(*selection, work, /*parallel=*/true);
  });
}

}  // namespace amalgam
