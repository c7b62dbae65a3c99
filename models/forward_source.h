#pragma once

#include <torch/script.h>

#include <filesystem>
#include <string>
#include <vector>

#include "models/artefact.h"

namespace amalgam {

/// "x: Tensor, mask: Optional[Tensor] = None" and "x, mask": the inputs of an expert's forward, declared and passed on;
/// and what it returns.
struct ForwardInputs {
  std::string declared, passed, returned;
  bool tensors_by_position = true;  ///< each is a Tensor, and none must be named
  std::vector<std::string> names;

  bool operator==(const ForwardInputs&) const = default;
};

/// @param expert  the file, for messages
/// @throws InputError where a merged model of many tasks cannot pass the inputs on, or hand back what is returned
ForwardInputs forward_inputs(const torch::jit::Module& module, const std::filesystem::path& expert);

/// Compiles `declared`, on a module of its own.
/// @throws InputError where code that declares these inputs does not compile
void require_declarable(const ForwardInputs& inputs, const std::filesystem::path& expert);

/// @throws InputError where a router cannot sort this task's examples: its model takes something else than tensors by
///         position, or does not return a tensor or a dict of tensors with its `output`
void require_routable(const TaskModel& task, const ForwardInputs& inputs);

/// The source of `forward(task, inputs…)`, which runs a task's submodule.
/// @param select  tasks have parts (models/task_switch.h)
std::string dispatch_source(const std::vector<TaskModel>& tasks, const ForwardInputs& inputs, bool select);

/// The source of `route(inputs…)` -> [N, M], the router's share of each task, in the tasks' order, of each example; and
/// of `forward_routed(task, inputs…)`, the named task's output where each example is run with the part of the task that
/// has the largest share of it. The features are the outputs of the submodules without any part, one after the other: a
/// pass each. Examples of one part go together.
/// @param heads  of how many tasks outputs are features: all, or one where tasks have nothing private
/// @throws InputError as `require_routable`
std::string routed_source(const std::vector<TaskModel>& tasks, const ForwardInputs& inputs, size_t heads);

}  // namespace amalgam
