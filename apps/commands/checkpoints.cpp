#include <algorithm>

#include "apps/checkpoint_merge.h"
#include "apps/commands/commands.h"
#include "core/device.h"
#include "core/error.h"
#include "core/process_group.h"

namespace amalgam {
namespace {

struct Arguments {
  std::string base, method, output, device = "auto", shard_size = "5GB";
  std::vector<std::string> experts, weights, options, private_patterns;
  int64_t seed = 0, threads = 0;
  bool quiet = false;

  void add_to(CLI::App& command);
  CheckpointRequest request() const;
  void run() const;
};

/// Splits NAME=VALUE.
std::pair<std::string, std::string> split_pair(const std::string& text, const std::string& option,
                                               const std::string& form) {
  const auto equals = text.find('=');
  require_input(equals != std::string::npos && equals > 0, "{} '{}': expected {}", option, text, form);
  return {text.substr(0, equals), text.substr(equals + 1)};
}

YAML::Node parse_yaml(const std::string& text, const std::string& where) {
  try {
    return YAML::Load(text);
  } catch (const YAML::Exception& error) {
    throw InputError(fmt::format("{} '{}': {}", where, text, error.what()));
  }
}

/// PATH, or NAME=PATH; a path's name is that of its folder.
CheckpointRequest::Expert expert_from(const std::string& text) {
  namespace fs = std::filesystem;
  if (text.find('=') == std::string::npos || fs::exists(text)) {
    const fs::path path = fs::path(text).lexically_normal();
    const fs::path named = path.filename().empty() ? path.parent_path() : path;
    return {named.filename().string(), text, 1.0};
  }
  const auto [name, path] = split_pair(text, "--expert", "PATH or NAME=PATH");
  return {name, path, 1.0};
}

void Arguments::add_to(CLI::App& command) {
  command.add_option("--base", base, "the model that all experts were fine-tuned from; most methods need it");
  command
      .add_option("--expert", experts,
                  "PATH or NAME=PATH, once for each; a path is a folder with "
                  "model.safetensors or its index, or such a file itself")
      ->required();
  command.add_option("--weight", weights, "NAME=NUMBER: the weight of an expert; default: 1");
  command.add_option("--method", method, "as a row of `merge` in a recipe: ties, or '{method: ties, density: 0.2}'")
      ->required();
  command.add_option("--option", options, "KEY=VALUE: an option of the method (amalgam methods NAME lists them)");
  command.add_option("--private", private_patterns,
                     "name pattern of tensors that are not merged but the base's; without a base the first expert's");
  command.add_option("--output", output, "the folder to make")->required();
  command.add_option("--shard-size", shard_size, "how large a file of tensors may be")->capture_default_str();
  command.add_option("--seed", seed, "of methods that draw")->check(whole_number_from(0))->capture_default_str();
  command.add_option("--device", device, "auto, cpu, cuda or cuda:<i>")->capture_default_str();
  command.add_option("--threads", threads, "threads of the CPU; default: as many as there are")
      ->check(whole_number_from(1));
  command.add_flag("--quiet", quiet, "no progress, no messages; results and errors only");
}

CheckpointRequest Arguments::request() const {
  CheckpointRequest request;
  request.base = base;
  request.output = output;
  request.private_patterns = private_patterns;
  request.seed = seed;
  request.device = parse_device(device);
  for (const std::string& expert : experts) request.experts.push_back(expert_from(expert));
  for (const std::string& text : weights) {
    const auto [name, value] = split_pair(text, "--weight", "NAME=NUMBER");
    const auto found = std::ranges::find(request.experts, name, &CheckpointRequest::Expert::name);
    require_input(found != request.experts.end(), "--weight '{}': there is no expert of this name", text);
    require_input(YAML::convert<double>::decode(YAML::Node(value), found->weight), "--weight '{}': expected a number",
                  text);
  }
  request.method = word_as_section(parse_yaml(method, "--method"), "method");
  for (const std::string& text : options) {
    const auto [key, value] = split_pair(text, "--option", "KEY=VALUE");
    require_input(key != "method", "--option '{}': the method is given by --method", text);
    request.method[key] = parse_yaml(value, "--option");
  }
  OptionSet set;
  set.bytes("--shard-size", request.shard_bytes, "");
  set.read(YAML::Load(fmt::format("{{--shard-size: '{}'}}", shard_size)), "");
  return request;
}

void Arguments::run() const {
  const ProcessGroup group;
  require_input(group.size() == 1, "{} processes were started, but this works in one", group.size());
  configure_numerics(threads);
  Terminal terminal(quiet);
  CheckpointMerge merge(request());
  if (merge.is_done()) {
    terminal.message("finished before, unchanged");
  } else {
    try {
      merge.run(terminal);
    } catch (const InputError& error) {
      throw FailedWhileRunning(error.what());
    }
  }
  fmt::print("merged model: {}\n", output);
}

}  // namespace

void add_checkpoints(CLI::App& app) {
  auto* command = app.add_subcommand("checkpoints", "merge folders of safetensors, without TorchScript and data");
  command->footer(
      "Example:\n  amalgam checkpoints --base llama --expert llama-code --expert llama-maths \\\n"
      "      --method ties --option density=0.2 --output llama-both\n"
      "Given again, the same command finds the folder done; stopped, it leaves nothing and begins anew.");
  auto arguments = std::make_shared<Arguments>();
  arguments->add_to(*command);
  command->callback([arguments] { arguments->run(); });
}

}  // namespace amalgam
