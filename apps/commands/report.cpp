#include "apps/report.h"
#include "apps/commands/commands.h"

namespace amalgam {

void add_report(CLI::App& app) {
  auto* command = app.add_subcommand("report", "draw the page of a run from its files");
  command->footer("Example:\n  amalgam report runs/quickstart");
  auto run = std::make_shared<std::string>();
  command->add_option("run", *run, "the run's folder")->required();
  command->callback([run] {
    const RunFolder folder(*run);
    write_report(folder);
    fmt::print("report: {}\n", folder.report().string());
  });
}

}  // namespace amalgam
