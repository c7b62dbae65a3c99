#include "apps/commands/commands.h"

namespace amalgam {

void add_finetune(CLI::App& app) {
  auto* command = app.add_subcommand("finetune", "make the base and the experts that the recipe gives no file for");
  command->footer("Example:\n  amalgam finetune configs/quickstart.yaml --task left");
  auto arguments = std::make_shared<RecipeArguments>();
  auto selection = std::make_shared<PipelineSelection>();
  arguments->add_to(*command);
  command->add_option("--task", selection->task, "this task's expert only");
  command->callback([arguments, selection] {
    arguments->run(*selection, [](Pipeline& pipeline) {
      pipeline.make_models();
      fmt::print("experts: {}\n", (pipeline.folder().root() / "experts").string());
    });
  });
}

}  // namespace amalgam
