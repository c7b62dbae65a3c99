#include "apps/commands/commands.h"

namespace amalgam {

void add_merge(CLI::App& app) {
  auto* command = app.add_subcommand("merge", "make the merged models (and before them what they need)");
  command->footer("Example:\n  amalgam merge configs/quickstart.yaml --method mats --set merge.mats.damping=3");
  auto arguments = std::make_shared<RecipeArguments>();
  auto selection = std::make_shared<PipelineSelection>();
  arguments->add_to(*command);
  command->add_option("--method", selection->row, "this row of `merge` only");
  command->callback([arguments, selection] {
    arguments->run(*selection, [](Pipeline& pipeline) {
      pipeline.merge();
      fmt::print("merged models: {}\n", (pipeline.folder().root() / "merged").string());
    });
  });
}

}  // namespace amalgam
