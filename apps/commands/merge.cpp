#include "apps/commands/commands.h"

namespace amalgam {

void add_merge(CLI::App& app) {
  auto* command = app.add_subcommand("merge", "make the merged models (and before them what they need)");
  command->footer(
      "Example:\n  amalgam merge configs/quickstart.yaml --method mats --set merge.mats.damping=3\n"
      "  mpirun -n 4 amalgam merge configs/quickstart.yaml");
  auto arguments = std::make_shared<RecipeArguments>();
  auto selection = std::make_shared<PipelineSelection>();
  arguments->add_to(*command);
  command->add_option("--method", selection->row, "this row of `merge` only");
  command->callback([arguments, selection] {
    const auto work = [](Pipeline& pipeline) {
      pipeline.merge();
      if (!pipeline.is_root()) return;
      fmt::print("merged models: {}\n", (pipeline.folder().root() / "merged").string());
    };
    arguments->run(*selection, work, /*parallel=*/true);
  });
}

}  // namespace amalgam
