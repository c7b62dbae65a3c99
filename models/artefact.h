#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/tensor_source.h"
#include "models/runner.h"

namespace amalgam {

/// A model's parameters and buffers: what an expert is, for merging and for its digest (core/digest.h). Live tensors.
NamedTensors tensors_of(const ModelRunner& model);

/// Writes the merged model of experts that share all their parameters: the file at `template_path` (any expert, or the
/// base) with the values of `merged`, parameters and buffers, in it.
/// @throws InputError if a name, shape or dtype of `merged` is not the template's, or a file cannot be read or written
void save_merged(const std::filesystem::path& path, const std::filesystem::path& template_path,
                 const NamedTensors& merged);

struct TaskModel {
  std::string task;
  std::filesystem::path expert;
  /// Which of what its model returns is its output, as `OpenOptions::output`; empty: the only one. For a router alone.
  std::string output = {};
};

/// Writes the merged model of experts with private parameters: one TorchScript file whose `forward(task: str, inputs…)`
/// runs the named task's submodule. Every submodule has the tensors of `merged` (parameters and buffers), stored once;
/// what `merged` does not name stays the expert's own.
/// @param parts  what each task keeps beside the merged tensors (core/task_parts.h), packed in the file too: it then
/// builds a task's tensors when it runs the task after another one (models/task_switch.h). With a router among them
/// the file has `route` and `forward_routed`, too (models/forward_source.h)
/// @throws InputError for a name that `require_task_name` refuses, a task given twice, experts whose `forward` takes or
/// returns different types or returns an object of a class of its own, and as `save_merged`
void save_multitask(const std::filesystem::path& path, const std::vector<TaskModel>& tasks, const NamedTensors& merged,
                    const NamedTensors& parts = {});

/// Whether `save_multitask` can make one file of models like these, from their `forward` alone: to be asked long before
/// there is anything merged.
/// @param routed  with a router
/// @throws InputError as `save_multitask` for what `forward` takes and returns
void check_multitask(const std::vector<TaskModel>& tasks, bool routed);

/// Opens one task of such a file, as if it were a model of its own: its parameters have the expert's names, and `save`
/// writes this task's model alone.
/// @throws InputError as `open_model`, and if the file is not of many tasks or has no such task
std::unique_ptr<ModelRunner> open_multitask(const std::filesystem::path& path, const std::string& task,
                                            at::Device device, const OpenOptions& options = {});

/// The same of a file with a router, run as `forward_routed` does: by each example's own part. To be run, not written.
/// @throws InputError as `open_multitask`, and without a router
std::unique_ptr<ModelRunner> open_routed(const std::filesystem::path& path, const std::string& task, at::Device device);

/// The tasks of a file; empty for a model of one task.
/// @throws InputError as `open_model`
std::vector<std::string> multitask_names(const std::filesystem::path& path);

/// A task's name becomes an attribute of a TorchScript module: a letter, then letters, digits, underscores; no word of
/// Python's, and no attribute that each module has.
/// @throws InputError for another name
void require_task_name(const std::string& name);

}  // namespace amalgam
