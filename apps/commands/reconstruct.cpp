#include "apps/commands/commands.h"
#include "core/error.h"
#include "models/artefact.h"

namespace amalgam {

void add_reconstruct(CLI::App& app) {
  auto* command = app.add_subcommand("reconstruct", "one task's model out of a merged file of many tasks");
  command->footer("Example:\n  amalgam reconstruct runs/quickstart/merged/tall.pt --task left --output left.pt");
  auto file = std::make_shared<std::string>(), task = std::make_shared<std::string>(),
       output = std::make_shared<std::string>();
  command->add_option("file", *file, "a merged .pt whose forward takes a task; nothing else of the run is needed")
      ->required();
  command->add_option("--task", *task, "the task")->required();
  command->add_option("--output", *output, "where its model goes, TorchScript as an expert's")->required();
  command->callback([file, task, output] {
    require_input(!std::filesystem::exists(*output), "--output {}: there is such a file; give another name", *output);
    open_multitask(*file, *task, at::kCPU)->save(*output);
    fmt::print("model of {}: {}\n", *task, *output);
  });
}

}  // namespace amalgam
