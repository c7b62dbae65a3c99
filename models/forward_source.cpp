#include "models/forward_source.h"

#include <fmt/format.h>

#include "core/error.h"

namespace amalgam {
namespace {

constexpr const char* kPlaced = R"(
def _placed(self, whole: Tensor, part: Tensor, rows: Tensor, count: int) -> Tensor:
    if whole.numel() == 0:
        whole = part.new_zeros([count] + part.size()[1:])
    return whole.index_copy(0, rows, part)
)";

/// What follows the call of a task's forward to take its output.
std::string pick(const TaskModel& task, const std::string& returned) {
  if (returned == "Tensor") return "";
  require_input(returned == "Dict[str, Tensor]" && !task.output.empty(),
                "{}: a router goes by outputs that are a tensor, or a dict of tensors of which `output` names one, and "
                "the model returns {}",
                task.expert.string(), returned);
  return fmt::format("[\"{}\"]", task.output);
}

}  // namespace

ForwardInputs forward_inputs(const torch::jit::Module& module, const std::filesystem::path& expert) {
  const c10::FunctionSchema& schema = module.get_method("forward").function().getSchema();
  ForwardInputs inputs;
  for (size_t i = 1; i < schema.arguments().size(); ++i) {  // after self
    const c10::Argument& argument = schema.arguments()[i];
    require_input(argument.name() != "task",
                  "{}: an input of the model is called 'task', which the merged model needs for "
                  "itself; export the experts with another name",
                  expert.string());
    if (argument.kwarg_only() && !schema.arguments()[i - 1].kwarg_only()) inputs.declared += ", *";
    inputs.declared += fmt::format(", {}: {}", argument.name(), argument.type()->annotation_str());
    if (argument.default_value()) inputs.declared += fmt::format(" = {}", c10::str(*argument.default_value()));
    inputs.tensors_by_position =
        inputs.tensors_by_position && !argument.kwarg_only() && argument.type()->annotation_str() == "Tensor";
    inputs.names.push_back(argument.name());
    inputs.passed += (inputs.passed.empty() ? "" : ", ") + argument.name();
    if (argument.kwarg_only()) inputs.passed += "=" + argument.name();
  }
  inputs.returned = schema.returns().at(0).type()->annotation_str();
  // Each file has classes of its own, which no common source can name.
  require_input(inputs.returned.find("__torch__") == std::string::npos,
                "{}: the model returns {}, a class of its own, and a merged model of many tasks can return tensors, "
                "tuples, lists and dicts alone; export the experts so",
                expert.string(), inputs.returned);
  return inputs;
}

std::string dispatch_source(const std::vector<TaskModel>& tasks, const ForwardInputs& inputs, bool select) {
  std::string source = fmt::format("def forward(self, task: str{}) -> {}:\n", inputs.declared, inputs.returned), known;
  for (const TaskModel& task : tasks) {
    source += fmt::format("    if task == '{0}':\n{2}        return self.{0}.forward({1})\n", task.task, inputs.passed,
                          select ? "        self._select(task, task)\n" : "");
    known += (known.empty() ? "" : ", ") + task.task;
  }
  source += fmt::format("    assert False, 'unknown task: ' + task + ' (known: {})'\n", known);
  return source + fmt::format("    return self.{}.forward({})\n", tasks.front().task, inputs.passed);
}

std::string routed_source(const std::vector<TaskModel>& tasks, const ForwardInputs& inputs, size_t heads) {
  require_input(inputs.tensors_by_position,
                "{}: its forward takes{}, and a router sorts examples of tensors alone; leave `router` out",
                tasks.front().expert.string(), inputs.declared);
  std::string rows;
  for (const std::string& name : inputs.names)
    rows += (rows.empty() ? "" : ", ") + fmt::format("{}.index_select(0, rows)", name);
  std::string source = kPlaced, features, forward;
  for (const TaskModel& task : tasks) {
    source += fmt::format("\ndef _output_{0}(self{1}) -> Tensor:\n    return self.{0}.forward({2}){3}\n", task.task,
                          inputs.declared, inputs.passed, pick(task, inputs.returned));
    if (&task - tasks.data() < static_cast<std::ptrdiff_t>(heads))
      features += fmt::format("    self._select('{0}', '')\n    features.append(self._output_{0}({1}).to(7))\n",
                              task.task, inputs.passed);
  }
  source +=
      fmt::format("\ndef route(self{}) -> Tensor:\n    features: List[Tensor] = []\n{}", inputs.declared, features);
  source +=
      "    standard = torch.div(torch.sub(torch.cat(features, 1), self._parts.router_mean), "
      "self._parts.router_deviation)\n"
      "    logits = torch.add(torch.mm(standard, self._parts.router_weight.t()), self._parts.router_bias)\n"
      "    return torch.softmax(logits, 1)\n";
  for (const TaskModel& task : tasks) {
    source += fmt::format(
        "\ndef _routed_{}(self{}) -> Tensor:\n    chosen = self.route({}).argmax(1)\n    output = torch.empty([0])\n",
        task.task, inputs.declared, inputs.passed);
    for (size_t part = 0; part < tasks.size(); ++part)
      source += fmt::format(
          "    rows = torch.nonzero(torch.eq(chosen, {})).view(-1)\n    if rows.numel() > 0:\n"
          "        self._select('{}', '{}')\n"
          "        output = self._placed(output, self._output_{}({}), rows, chosen.numel())\n",
          part, task.task, tasks[part].task, task.task, rows);
    source += "    return output\n";
    forward += fmt::format("    if task == '{0}':\n        return self._routed_{0}({1})\n", task.task, inputs.passed);
  }
  return source +
         fmt::format(
             "\ndef forward_routed(self, task: str{}) -> Tensor:\n{}    assert False, 'unknown task: ' + task\n"
             "    return torch.empty([0])\n",
             inputs.declared, forward);
}

}  // namespace amalgam
