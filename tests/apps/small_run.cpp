#include "apps/small_run.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "apps/command.h"
#include "core/atomic_file.h"
#include "core/random.h"
#include "core/safetensors.h"

namespace amalgam {
namespace {

/// Class c is bright in channel c; `light` multiplies one channel, so that the two tasks differ.
NamedTensors images(int64_t count, int64_t bright_channel, uint64_t seed) {
  auto generator = RandomStream(seed, "images").generator();
  const auto target = at::randint(3, {count}, generator, at::kLong);
  auto input = at::rand({count, 3, 6, 6}, generator);
  input += 0.3 * at::one_hot(target, 3).to(at::kFloat).view({count, 3, 1, 1});
  input.select(1, bright_channel).mul_(1.5);
  return {{"input.0", input}, {"target", target}};
}

constexpr const char* kRecipe = R"(name: small
seed: 1
base:
  train: {{architecture: mlp, options: {{hidden: [16]}}, data: {{format: tensors, root: {0}/plain}}, steps: 60, batch: 32, rate: 1e-2}}
tasks:
  - name: red
    data: {{format: tensors, root: {0}/red}}
    expert: {{train: {{steps: 30, batch: 32, rate: 1e-2}}}}
  - name: blue
    data: {{format: tensors, root: {0}/blue}}
    expert: {{train: {{steps: 30, batch: 32, rate: 1e-2}}}}
statistics: {{examples: 100}}
merge:
  - average
  - {{method: task_arithmetic, search: {{scale: [0.3, 0.5]}}}}
  - fisher
  - regmean
  - mats
evaluate: {{batch: 64}}
)";

}  // namespace

CommandResult call_command(const std::vector<std::string>& arguments) {
  std::vector<const char*> argv = {"amalgam"};
  for (const auto& argument : arguments) argv.push_back(argument.c_str());
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  CommandResult result;
  result.code = run_command(static_cast<int>(argv.size()), argv.data());
  std::fflush(stdout);
  result.out = ::testing::internal::GetCapturedStdout();
  result.error = ::testing::internal::GetCapturedStderr();
  return result;
}

SmallRun::SmallRun() {
  for (const auto& [task, channel] :
       std::vector<std::pair<std::string, int64_t>>{{"plain", 1}, {"red", 0}, {"blue", 2}}) {
    uint64_t seed = static_cast<uint64_t>(channel) * 10;
    for (const auto& [split, count] :
         std::vector<std::pair<std::string, int64_t>>{{"train", 600}, {"val", 120}, {"test", 240}})
      write_safetensors(data(task) / (split + ".safetensors"), images(count, channel, ++seed));
  }
  write_file(recipe(), fmt::format(kRecipe, folder_.path().string()));
}

CommandResult SmallRun::call(const std::string& command, const std::vector<std::string>& arguments) const {
  std::vector<std::string> all = {command, recipe().string(), "--runs", (folder_ / "runs").string(), "--device", "cpu"};
  all.insert(all.end(), arguments.begin(), arguments.end());
  return call_command(all);
}

void SmallRun::edit(const std::string& from, const std::string& to) {
  auto text = read_file(recipe());
  const auto at = text.find(from);
  ASSERT_NE(at, std::string::npos) << from;
  write_file(recipe(), text.replace(at, from.size(), to));
}

}  // namespace amalgam
