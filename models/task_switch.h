#pragma once

#include <torch/script.h>

#include <map>
#include <string>
#include <vector>

#include "core/tensor_source.h"

namespace amalgam {

/// One task's submodule of a merged module of many tasks.
struct SwitchedTask {
  std::string task;
  torch::jit::Module module;
  std::map<std::string, std::string> aliases;  ///< every further name of a tied tensor -> its first name
};

/// Makes a merged module keep the parts of its tasks (core/task_parts.h) packed, and rebuild a task's tensors when it
/// is run after another one.
///
/// The module gets `_parts`, a submodule with the shared tensors, the base's and the parts as buffers, each once;
/// `_selected`, whose tensors are built; and `_select(task, part)`, which lets the former task's tensors go and builds
/// the new one's, with the part of that task, so that memory holds one built model beside the packed ones. Tensors that
/// are to be built are empty until then. Values that a task has for itself are put into its submodule at once, as is
/// what TorchScript has no name for (a parameter called "0"), built whole.
///
/// With a router among the parts any task can have any task's part, or none (`part` empty): then values, too, are built
/// when they are selected, and `_parts` holds the router's tensors, `router_weight` and so on.
///
/// The names begin with '_', which no task's does. Two threads must not run one module: it holds one task's tensors.
/// @param shared  the merged tensors: on the CPU, each with memory of its own
/// @param parts   may be without any
/// @return whether anything is to be selected: `_select` is there then
/// @throws InputError if there is a router, and TorchScript has no name for a tensor that it would exchange
bool add_task_switch(torch::jit::Module& merged, const std::vector<SwitchedTask>& tasks, const NamedTensors& shared,
                     const NamedTensors& parts);

/// Builds a task's tensors in a module that has a `_select`; in any other nothing happens.
void select_task(const torch::jit::Module& merged, const std::string& task);

/// Whether code can name an attribute so: a letter or an underscore, then letters, digits and underscores, and no word
/// of the language.
bool is_attribute_name(const std::string& name);

}  // namespace amalgam
