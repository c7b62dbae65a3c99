#include "apps/commands/commands.h"
#include "apps/continual_merge.h"
#include "core/device.h"
#include "core/error.h"

namespace amalgam {
namespace {

/// Words of `amalgam merge NEW.pt --onto MERGED.pt`.
struct OntoArguments {
  std::string merged, base, output;
  double weight = 1.0, share = 0.5;
  std::vector<std::string> private_patterns;

  void add_to(CLI::App& command) {
    auto* onto =
        command.add_option("--onto", merged,
                           "merge one more expert, given in the place of the recipe, into this merged model (or "
                           "first expert), TorchScript; nothing else of what went in before is needed");
    const auto of_onto = [&](CLI::Option* option) { option->needs(onto)->group("With --onto"); };
    of_onto(command.add_option("--base", base, "the base of both"));
    of_onto(command.add_option("--output", output, "the new merged model; its record is put beside it"));
    of_onto(command.add_option("--weight", weight, "of the expert")->check(CLI::PositiveNumber)->capture_default_str());
    of_onto(command.add_option("--share", share, "as `amalgam methods opcm` says")
                ->check(CLI::Range(0.0, 1.0))
                ->capture_default_str());
    of_onto(command.add_option("--private", private_patterns, "name patterns of tensors that stay the merged model's"));
  }

  void run(const RecipeArguments& common) const {
    require_input(!base.empty() && !output.empty(),
                  "--onto needs the base of both models (--base) and a place for the new one (--output)");
    require_input(common.overrides.empty() && !common.seed, "--onto takes no --set and no --seed: there is no recipe");
    configure_numerics(common.threads);
    ContinualRequest request{
        base,   merged, common.recipe,    output,
        weight, share,  private_patterns, parse_device(common.device.empty() ? "auto" : common.device)};
    Terminal terminal(common.quiet);
    ContinualMerge merge(std::move(request));
    const auto state = merge.run(terminal);
    fmt::print("{}: {} experts, each {:.4g} from the base on average\n", output, state.experts, state.mean_norm);
  }
};

}  // namespace

void add_merge(CLI::App& app) {
  auto* command = app.add_subcommand("merge", "make the merged models (and before them what they need)");
  command->footer(
      "Example:\n  amalgam merge configs/quickstart.yaml --method mats --set merge.mats.damping=3\n"
      "  mpirun -n 4 amalgam merge configs/quickstart.yaml\n"
      "  amalgam merge configs/text6.yaml --method regmean --write-hf merged-minilm\n"
      "  amalgam merge new-expert.pt --onto merged.pt --base base.pt --output merged-2.pt");
  auto arguments = std::make_shared<RecipeArguments>();
  auto selection = std::make_shared<PipelineSelection>();
  auto onto = std::make_shared<OntoArguments>();
  arguments->add_to(*command);
  command->add_option("--method", selection->row, "this row of `merge` only");
  command->add_option("--write-hf", selection->write_hf,
                      "also write the row's model to this new folder, as transformers loads it; of a base that "
                      "`python -m amalgam_export encoder` made");
  onto->add_to(*command);
  command->callback([arguments, selection, onto] {
    if (!onto->merged.empty()) {
      require_input(selection->row.empty() && selection->write_hf.empty(),
                    "--onto takes no --method and no --write-hf");
      onto->run(*arguments);
      return;
    }
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
