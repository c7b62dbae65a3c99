#include "models/artefact.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "core/task_parts.h"
#include "models/forward_source.h"
#include "models/task_switch.h"
#include "models/torchscript_runner.h"

namespace amalgam {
namespace {

using torch::jit::Module;

constexpr std::array<std::string_view, 4> kReserved = {"self", "task", "forward", "training"};

/// An expert with the shared tensors in the place of its own.
SwitchedTask with_shared(const TaskModel& task, const NamedTensors& shared) {
  const TorchScriptRunner runner(load_module(task.expert, at::kCPU), at::kCPU, task.expert.string());
  runner.require_fitting(shared);
  for (const auto& [name, tensor] : shared) set_tensor(runner.module(), name, tensor);
  for (const auto& [alias, name] : runner.aliases())
    if (shared.contains(name)) set_tensor(runner.module(), alias, shared.at(name));
  for (const auto& [name, parameter] : runner.parameters()) parameter.requires_grad_(parameter.is_floating_point());
  return {task.task, runner.module(), runner.aliases()};
}

void require_same(const TaskModel& task, const ForwardInputs& own, const TaskModel& first,
                  const ForwardInputs& expected) {
  require_input(own == expected,
                "{}: its forward is (self{}) -> {}, and that of {} (self{}) -> {}; experts of one merged model must "
                "take and return the same",
                task.expert.string(), own.declared, own.returned, first.expert.string(), expected.declared,
                expected.returned);
}

}  // namespace

void save_merged(const std::filesystem::path& path, const std::filesystem::path& template_path,
                 const NamedTensors& merged) {
  const auto model = open_model(template_path, at::kCPU);
  model->set(merged);
  model->save(path);
}

void save_multitask(const std::filesystem::path& path, const std::vector<TaskModel>& tasks, const NamedTensors& merged,
                    const NamedTensors& parts) {
  require_input(!tasks.empty(), "{}: a merged model needs at least one task", path.string());
  std::set<std::string> names;
  for (const TaskModel& task : tasks) {
    require_task_name(task.task);
    require_input(names.insert(task.task).second, "two tasks are called '{}'", task.task);
  }
  const at::NoGradGuard no_grad;
  NamedTensors shared;
  // Copies: a view would take all the memory behind it into the file.
  for (const auto& [name, tensor] : merged) shared.emplace(name, tensor.cpu().clone(at::MemoryFormat::Contiguous));

  Module merged_model("Merged");
  merged_model.register_attribute("training", c10::BoolType::get(), false);
  std::optional<ForwardInputs> inputs;
  std::vector<SwitchedTask> experts;
  for (const TaskModel& task : tasks) {
    const SwitchedTask& expert = experts.emplace_back(with_shared(task, shared));
    const ForwardInputs own = forward_inputs(expert.module, task.expert);
    if (!inputs) inputs = own;
    require_same(task, own, tasks.front(), *inputs);
    merged_model.register_module(task.task, expert.module);
  }
  const bool select = add_task_switch(merged_model, experts, shared, parts);
  merged_model.define(dispatch_source(tasks, *inputs, select));
  if (!has_router(MemoryTensors(parts))) return save_module(merged_model, path);
  const bool has_private = std::ranges::any_of(experts, [&](const SwitchedTask& expert) {
    for (const auto& parameter : expert.module.named_parameters())
      if (!shared.contains(parameter.name) && !expert.aliases.contains(parameter.name)) return true;
    return false;
  });
  merged_model.define(routed_source(tasks, *inputs, has_private ? tasks.size() : 1));
  save_module(merged_model, path);
}

void check_multitask(const std::vector<TaskModel>& tasks, bool routed) {
  std::map<std::filesystem::path, ForwardInputs> known;  // tasks may share a file, the base's
  for (const TaskModel& task : tasks) {
    if (!known.contains(task.expert)) {
      const ForwardInputs inputs = forward_inputs(load_module(task.expert, at::kCPU), task.expert);
      require_declarable(inputs, task.expert);
      known.emplace(task.expert, inputs);
    }
    const ForwardInputs& own = known.at(task.expert);
    require_same(task, own, tasks.front(), known.at(tasks.front().expert));
    if (routed) require_routable(task, own);
  }
}

std::unique_ptr<ModelRunner> open_multitask(const std::filesystem::path& path, const std::string& task,
                                            at::Device device, const OpenOptions& options) {
  const Module module = load_module(path, device);
  const std::vector<std::string> tasks = tasks_of(module);
  require_input(!tasks.empty(), "{}: this is a model of one task; it cannot be opened for task '{}'", path.string(),
                task);
  require_input(std::ranges::count(tasks, task) == 1, "{}: no task '{}'{}", path.string(), task,
                suggestion(task, tasks));
  select_task(module, task);
  return std::make_unique<TorchScriptRunner>(module.attr(task).toModule(), device,
                                             fmt::format("{} (task {})", path.string(), task), options);
}

std::unique_ptr<ModelRunner> open_routed(const std::filesystem::path& path, const std::string& task,
                                         at::Device device) {
  const Module module = load_module(path, device);
  require_input(std::ranges::count(tasks_of(module), task) == 1 && module.find_method("forward_routed").has_value(),
                "{}: it has no router, or no task '{}'", path.string(), task);
  const ForwardInputs inputs = forward_inputs(module.attr(task).toModule(), path);
  Module routed("Routed");
  routed.register_attribute("training", c10::BoolType::get(), false);
  routed.register_module("whole", module);
  routed.define(fmt::format("def forward(self{}) -> Tensor:\n    return self.whole.forward_routed('{}', {})\n",
                            inputs.declared, task, inputs.passed));
  return std::make_unique<TorchScriptRunner>(routed, device, fmt::format("{} (task {}, routed)", path.string(), task));
}

std::vector<std::string> multitask_names(const std::filesystem::path& path) {
  return tasks_of(load_module(path, at::kCPU));
}

NamedTensors tensors_of(const ModelRunner& model) {
  NamedTensors tensors = model.parameters();
  tensors.merge(model.buffers());
  return tensors;
}

void require_task_name(const std::string& name) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  const auto inner = [&](char c) { return letter(c) || (c >= '0' && c <= '9') || c == '_'; };
  require_input(!name.empty() && letter(name.front()) && std::ranges::all_of(name, inner),
                "'{}' cannot name a task: a name is a letter, then letters, digits and underscores", name);
  require_input(is_attribute_name(name) && std::ranges::count(kReserved, name) == 0,
                "'{}' cannot name a task: the word is reserved in TorchScript", name);
}

}  // namespace amalgam
