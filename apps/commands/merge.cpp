#include "apps/commands/commands.h"

namespace amalgam {

void add_merge(CLI::App& app) {
  auto* command = app.add_subcommand("merge", "make the merged models (and before them what they need)");
  command->footer(
      "Example:\n  amalgam merge configs/quickstart.yaml --method mats --set merge.mats.damping=3\n"
      "  mpirun -n 4 amalgam merge configs/quickstart.yaml\n"
      "  amalgam merge configs/text6.yaml --method regmean --write-hf merged-minilm");
  auto arguments = std::make_shared<RecipeArguments>();
  auto selection = std::make_shared<PipelineSelection>();
  arguments->add_to(*command);
  command->add_option("--method", selection->row, "this row of `merge` only");
  command->add_option("--write-hf", selection->write_hf,
                      "also write the row's model to this new folder, as transformers loads it; of a base that "
                      "`python -m amalgam_export encoder` made");
  command->callback([arguments, selection] {
    const auto work = [selection](Pipeline& pipeline) {
      pipeline.merge();
      if (!pipeline.is_root()) return;
      pipeline.write_hf();
      fmt::print("merged models: {}\n", (pipeline.folder().root() / "merged").string());
      if (!selection->write_hf.empty()) fmt::print("for transformers: {}\n", selection->write_hf.string());
    };
    arguments->run(*selection, work, /*parallel=*/true);
  });
}

}  // namespace amalgam
