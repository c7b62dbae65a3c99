#include "apps/commands/commands.h"
#include "apps/report.h"

namespace amalgam {

void add_run(CLI::App& app) {
  auto* command =
      app.add_subcommand("run", "all of it: experts, statistics, merges, scores, report; finished steps are skipped");
  command->footer(
      "Example:\n  amalgam run configs/quickstart.yaml --set statistics.examples=500\nThen open "
      "runs/quickstart/report.html.");
  auto arguments = std::make_shared<RecipeArguments>();
  arguments->add_to(*command);
  command->callback([arguments] {
    const auto work = [](Pipeline& pipeline) {
      pipeline.evaluate();
      if (!pipeline.is_root()) return;
      fmt::print("{}", pipeline.table());
      write_report(pipeline.folder());
      fmt::print("report: {}\n", pipeline.folder().report().string());
    };
    arguments->run({}, work, /*parallel=*/true);
  });
}

}  // namespace amalgam
