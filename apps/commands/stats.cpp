// What is done with files of statistics alone, without a recipe.
#include <algorithm>

#include "apps/commands/commands.h"
#include "apps/statistics_text.h"
#include "core/digest.h"
#include "core/error.h"
#include "models/artefact.h"
#include "stats/combine.h"
#include "stats/compare.h"
#include "stats/verify.h"

namespace amalgam {
namespace {

using Rows = std::vector<std::vector<std::string>>;

void add(const std::vector<std::string>& paths, const std::string& output) {
  require_input(output.ends_with(".safetensors"), "--output {}: give a name that ends in .safetensors", output);
  std::vector<StatisticsShard> shards;
  for (const auto& path : paths) shards.push_back({path, Statistics::load(path)});
  const auto sum = add_statistics(std::move(shards));
  const auto written = sum.save(output);
  fmt::print("{}: task '{}', examples {}, {} in all\n", written.string(), sum.header().task,
             describe(sum.header().ranges), sum.header().examples());
}

std::string table_of(const StatisticsDifference& difference, double tolerance) {
  std::string text;
  Rows fields = {{"field", "first", "second"}}, sums = {{"sum", "", "largest |a-b|", "|a-b|/|b|"}};
  for (const auto& field : difference.fields) fields.push_back({field.field, field.a, field.b});
  for (const auto& sum : difference.sums) {
    const std::string mark = sum.within(tolerance) ? "" : "differs";
    sums.push_back(sum.refusal.empty() ? std::vector<std::string>{sum.name, mark, fmt::format("{:.3g}", sum.largest),
                                                                  fmt::format("{:.3g}", sum.relative)}
                                       : std::vector<std::string>{sum.name, mark, sum.refusal, ""});
  }
  if (fields.size() > 1) text = format_table(fields, 3) + "\n";
  return text + format_table(sums, 2);
}

void diff(const std::string& a, const std::string& b, double tolerance) {
  const auto difference = compare_statistics(Statistics::load(a), Statistics::load(b));
  fmt::print("{}", table_of(difference, tolerance));
  const auto sums = std::count_if(difference.sums.begin(), difference.sums.end(),
                                  [&](const auto& sum) { return !sum.within(tolerance); });
  if (!difference.within(tolerance))
    throw FailedWhileRunning(
        fmt::format("{} and {} differ: {} of {} sums by more than {:g}, and {} fields of the header", a, b, sums,
                    difference.sums.size(), tolerance, difference.fields.size()));
  fmt::print("equal within {:g}\n", tolerance);
}

void verify(const std::string& path, const std::string& expert) {
  const auto statistics = Statistics::load(path);
  VerifyOptions options;
  if (!expert.empty()) options.expert_digest = digest_of(MemoryTensors(tensors_of(*open_model(expert, at::kCPU))));
  const auto findings = verify_statistics(statistics, options);
  for (const auto& finding : findings) fmt::print("{}\n", finding);
  if (!findings.empty())
    throw FailedWhileRunning(fmt::format("{}: {} finding{}; collect the statistics again, or fetch the file again",
                                         path, findings.size(), findings.size() == 1 ? "" : "s"));
  fmt::print("{}: nothing wrong in {} sums{}\n", path, statistics.sums().infos().size(),
             expert.empty() ? "" : ", which are of this expert");
}

void add_add(CLI::App& stats) {
  auto* command = stats.add_subcommand("add", "add statistics of disjoint ranges of examples to those of all");
  command->footer("Example:\n  amalgam stats add left-0.safetensors left-1.safetensors -o left.safetensors");
  auto paths = std::make_shared<std::vector<std::string>>();
  auto output = std::make_shared<std::string>();
  command->add_option("files", *paths, "statistics of one expert on one data set")->required()->expected(2, 1 << 20);
  command->add_option("-o,--output", *output, "the file to write, NAME.safetensors")->required();
  command->callback([paths, output] { add(*paths, *output); });
}

void add_diff(CLI::App& stats) {
  auto* command = stats.add_subcommand("diff", "how far two files of statistics are apart");
  command->footer(
      "Exit code 0 where the headers are equal and each sum is within the tolerance, 1 where not.\n"
      "Example:\n  amalgam stats diff cpu.safetensors gpu.safetensors --tolerance 1e-6");
  auto a = std::make_shared<std::string>(), b = std::make_shared<std::string>();
  auto tolerance = std::make_shared<double>(0);
  command->add_option("first", *a, "a file of statistics")->required();
  command->add_option("second", *b, "the file that it is compared with")->required();
  command->add_option("--tolerance", *tolerance, "of |a-b|/|b| (Frobenius) of each sum; 0 where not given")
      ->check(CLI::NonNegativeNumber);
  command->callback([a, b, tolerance] { diff(*a, *b, *tolerance); });
}

void add_info(CLI::App& stats) {
  auto* command = stats.add_subcommand("info", "what a file of statistics holds, and of what");
  command->footer("Example:\n  amalgam stats info runs/quickstart/statistics/left.safetensors");
  auto path = std::make_shared<std::string>();
  command->add_option("file", *path, "a file of statistics, or the index of its shards")->required();
  command->callback([path] { fmt::print("{}", describe_statistics(Statistics::load(*path))); });
}

void add_verify(CLI::App& stats) {
  auto* command = stats.add_subcommand("verify", "read all of a file and look for what cannot be");
  command->footer(
      "Exit code 0 where nothing is wrong, 1 where something is.\n"
      "Example:\n  amalgam stats verify left.safetensors --expert experts/left.pt");
  auto path = std::make_shared<std::string>(), expert = std::make_shared<std::string>();
  command->add_option("file", *path, "a file of statistics, or the index of its shards")->required();
  command->add_option("--expert", *expert, "also: whether they are of this model (.pt)");
  command->callback([path, expert] { verify(*path, *expert); });
}

}  // namespace

void add_stats(CLI::App& app) {
  auto* command = app.add_subcommand("stats", "add, compare, describe and check files of statistics");
  command->footer(
      "Examples:\n"
      "  amalgam stats add left-0.safetensors left-1.safetensors -o left.safetensors\n"
      "  amalgam stats diff cpu.safetensors gpu.safetensors --tolerance 1e-6\n"
      "  amalgam stats info left.safetensors\n"
      "  amalgam stats verify left.safetensors --expert experts/left.pt");
  command->require_subcommand(1);
  add_add(*command);
  add_diff(*command);
  add_info(*command);
  add_verify(*command);
}

}  // namespace amalgam
