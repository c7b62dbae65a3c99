#include "apps/command.h"

#include <cstdio>
#include <exception>

#include "apps/commands/commands.h"
#include "core/error.h"
#include "core/version.h"

namespace amalgam {
namespace {

constexpr int kFailed = 1, kWrongInput = 2, kStopped = 130;

int say(int code, const std::string& text) {
  std::fputs(fmt::format("amalgam: {}\n", text).c_str(), stderr);
  return code;
}

/// LibTorch appends a stack of frames to its messages; the first part is what a user can read.
std::string without_stack(const std::string& text) {
  const auto stack = text.find("\nException raised from");
  return text.substr(0, stack);
}

}  // namespace

int run_command(int argc, const char* const* argv) {
  CLI::App app("amalgam merges models that were fine-tuned from one base into one model.", "amalgam");
  app.footer(
      "Start with:  amalgam run configs/quickstart.yaml\nEach subcommand has its own help:  amalgam merge --help\n"
      "Exit codes: 0 done, 1 failed while running, 2 wrong recipe or command line, 130 stopped.");
  app.set_version_flag("--version",
                       std::string("amalgam ") + AMALGAM_VERSION + " (LibTorch " + AMALGAM_TORCH_VERSION + ")");
  app.require_subcommand(1);
  add_run(app);
  add_finetune(app);
  add_collect(app);
  add_merge(app);
  add_evaluate(app);
  add_report(app);
  add_checkpoints(app);
  add_inspect(app);
  add_reconstruct(app);
  add_stats(app);
  add_methods(app);
  install_stop_handlers();
  try {
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kWrongInput;
  } catch (const FailedWhileRunning& error) {
    return say(kFailed, error.what());
  } catch (const InputError& error) {
    return say(kWrongInput, error.what());
  } catch (const Interrupted&) {
    return say(kStopped, "stopped; finished steps are kept, the same command goes on from there");
  } catch (const c10::Error& error) {
    return say(kFailed, without_stack(error.what_without_backtrace()));
  } catch (const std::exception& error) {
    return say(kFailed, error.what());
  }
}

}  // namespace amalgam
