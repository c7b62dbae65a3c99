#include "models/forward_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <sstream>
#include <string_view>

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
  return returned == "Tensor" ? "" : fmt::format("[\"{}\"]", task.output);
}

/// "['left', 'right']".
std::string list_of(const std::vector<TaskModel>& tasks, size_t count) {
  std::string list;
  for (size_t i = 0; i < count; ++i) list += (list.empty() ? "'" : ", '") + tasks[i].task + "'";
  return "[" + list + "]";
}

/// An argument's default as code.
std::string default_of(const c10::Argument& argument, const std::filesystem::path& expert) {
  std::ostringstream code;
  const auto other_than_repr = [](std::ostream& out, const c10::IValue& value) {  // which names what `define` lacks
    if (value.isDouble() && !std::isfinite(value.toDouble())) return bool(out << "float('" << value.toDouble() << "')");
    if (value.isGenericDict() && value.toGenericDict().empty()) return bool(out << "{}");
    return value.isList() && value.toListRef().empty() && out << "[]";
  };
  try {
    argument.default_value()->repr(code, other_than_repr);
  } catch (const c10::Error&) {
    throw InputError(fmt::format(
        "{}: the default of the model's input '{}' is of the type {}, which cannot be written as code for a "
        "merged model of many tasks; export the experts without that default",
        expert.string(), argument.name(), argument.type()->annotation_str()));
  }
  return code.str();
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
    if (argument.default_value()) inputs.declared += " = " + default_of(argument, expert);
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

void require_declarable(const ForwardInputs& inputs, const std::filesystem::path& expert) {
  try {
    torch::jit::Module("Declared").define(fmt::format("def forward(self{}) -> None:\n    pass\n", inputs.declared));
  } catch (const std::exception& error) {
    std::string_view reason = error.what();
    reason.remove_prefix(std::min(reason.find_first_not_of('\n'), reason.size()));
    throw InputError(
        fmt::format("{}: its forward is (self{}), which a merged model of many tasks cannot declare ({}); export the "
                    "experts with inputs of other types",
                    expert.string(), inputs.declared, reason.substr(0, reason.find('\n'))));
  }
}

void require_routable(const TaskModel& task, const ForwardInputs& inputs) {
  require_input(inputs.tensors_by_position,
                "{}: its forward is (self{}), and a router sorts examples of tensors given by position alone; leave "
                "`router` out",
                task.expert.string(), inputs.declared);
  require_input(inputs.returned == "Tensor" || (inputs.returned == "Dict[str, Tensor]" && !task.output.empty()),
                "{}: a router goes by outputs that are a tensor, or a dict of tensors of which `output` names one, and "
                "the model returns {}",
                task.expert.string(), inputs.returned);
}

std::string dispatch_source(const std::vector<TaskModel>& tasks, const ForwardInputs& inputs, bool select) {
  std::string source = fmt::format("def forward(self, task: str{}) -> {}:\n", inputs.declared, inputs.returned), known;
  if (select)
    source += fmt::format("    if task in {}:\n        self._select(task, task)\n", list_of(tasks, tasks.size()));
  for (const TaskModel& task : tasks) {
    source += fmt::format("    if task == '{0}':\n        return self.{0}.forward({1})\n", task.task, inputs.passed);
    known += (known.empty() ? "" : ", ") + task.task;
  }
  source += fmt::format("    assert False, 'unknown task: ' + task + ' (known: {})'\n", known);
  return source + fmt::format("    return self.{}.forward({})\n", tasks.front().task, inputs.passed);
}

std::string routed_source(const std::vector<TaskModel>& tasks, const ForwardInputs& inputs, size_t heads) {
  for (const TaskModel& task : tasks) require_routable(task, inputs);
  std::string rows, output = fmt::format("\ndef _output(self, task: str{}) -> Tensor:\n", inputs.declared);
  for (const std::string& name : inputs.names) rows += fmt::format(", {}.index_select(0, rows)", name);
  for (const TaskModel& task : tasks)
    output += fmt::format("    if task == '{0}':\n        return self.{0}.forward({1}){2}\n", task.task, inputs.passed,
                          pick(task, inputs.returned));
  // TorchScript writes a method out wherever it is called: loops, so that the models are there once.
  const std::string source = R"(    assert False, 'unknown task: ' + task
    return torch.empty([0])

def route(self{0}) -> Tensor:
    features: List[Tensor] = []
    for task in {1}:
        self._select(task, '')
        features.append(self._output(task, {2}).to(7))
    standard = torch.div(torch.sub(torch.cat(features, 1), self._parts.router_mean), self._parts.router_deviation)
    return torch.softmax(torch.add(torch.mm(standard, self._parts.router_weight.t()), self._parts.router_bias), 1)

def forward_routed(self, task: str{0}) -> Tensor:
    assert task in {3}, 'unknown task: ' + task
    chosen = self.route({2}).argmax(1)
    output = torch.empty([0])
    place = 0
    for part in {3}:
        rows = torch.nonzero(torch.eq(chosen, place)).view(-1)
        place += 1
        if rows.numel() > 0:
            self._select(task, part)
            output = self._placed(output, self._output(task{4}), rows, chosen.numel())
    return output
)";
  return kPlaced + output +
         fmt::format(fmt::runtime(source), inputs.declared, list_of(tasks, heads), inputs.passed,
                     list_of(tasks, tasks.size()), rows);
}

}  // namespace amalgam
