#include <numeric>

#include "apps/commands/commands.h"
#include "apps/statistics_text.h"
#include "core/atomic_file.h"
#include "core/digest.h"
#include "core/error.h"
#include "core/sharded_safetensors.h"
#include "models/artefact.h"
#include "stats/statistics.h"

namespace amalgam {
namespace {

using Rows = std::vector<std::vector<std::string>>;

double elements(const TensorInfo& info) {
  return std::accumulate(info.shape.begin(), info.shape.end(), 1.0,
                         [](double n, int64_t size) { return n * static_cast<double>(size); });
}

/// Name, dtype, shape and norm of each tensor, then the digest.
std::string list_tensors(const TensorSource& tensors) {
  Rows rows = {{"tensor", "dtype and shape", "norm"}};
  double count = 0, bytes = 0;
  for (const auto& [name, info] : tensors.infos()) {
    rows.push_back(
        {name, describe(info), fmt::format("{:.4g}", tensors.get(name).to(at::kDouble).norm().item<double>())});
    count += elements(info);
    bytes += elements(info) * static_cast<double>(c10::elementSize(info.dtype));
  }
  return fmt::format("{}\n{} tensors, {:.0f} numbers, {}\nsha256 {}\n", format_table(rows, 2), rows.size() - 1, count,
                     format_bytes(bytes), digest_of(tensors));
}

std::string inspect_safetensors(const std::string& path) {
  const auto file = open_safetensors(path);
  if (is_statistics_file(*file)) return describe_statistics(Statistics::load(path));
  std::string text = "tensors\n";
  for (const auto& [key, value] : file->metadata()) text += fmt::format("{}: {}\n", key, value);
  return text + "\n" + list_tensors(*file);
}

/// A checkpoint as Hugging Face lays it out.
std::string inspect_folder(const std::filesystem::path& folder) {
  const auto file = stored_safetensors(folder / "model.safetensors");
  require_input(std::filesystem::is_regular_file(file), "{} is a folder; give a file in it", folder.string());
  return inspect_safetensors(file.string());
}

std::string inspect_model(const std::string& path) {
  const auto model = open_model(path, at::kCPU);
  const auto tensors = tensors_of(*model);
  const auto parameters = model->parameter_names().size();
  std::string text = fmt::format("TorchScript model: {} parameters, {} buffers\n\n{}", parameters,
                                 tensors.size() - parameters, list_tensors(MemoryTensors(tensors)));
  for (const auto& [alias, first] : model->aliases()) text += fmt::format("tied: {} is {}\n", alias, first);
  return text;
}

}  // namespace

void add_inspect(CLI::App& app) {
  auto* command =
      app.add_subcommand("inspect", "what is in an expert, a file of statistics or tensors, or a record of a merge");
  command->footer("Example:\n  amalgam inspect runs/quickstart/statistics/left.safetensors");
  auto path = std::make_shared<std::string>();
  command
      ->add_option("file", *path,
                   ".pt, .safetensors (or the index of its shards, or a folder with a model in it) or .json")
      ->required();
  command->callback([path] {
    if (std::filesystem::is_directory(*path)) {
      fmt::print("{}", inspect_folder(*path));
      return;
    }
    if (path->ends_with(".safetensors") || path->ends_with(".safetensors.index.json")) {
      fmt::print("{}", inspect_safetensors(*path));
      return;
    }
    require_input(std::filesystem::is_regular_file(*path), "there is no file {}", *path);
    if (path->ends_with(".json")) {
      fmt::print("{}", read_file(*path));
    } else {
      fmt::print("{}", inspect_model(*path));
    }
  });
}

}  // namespace amalgam
