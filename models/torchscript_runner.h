#pragma once

#include <torch/script.h>

#include "models/runner.h"

namespace amalgam {

/// A ModelRunner over a TorchScript module, scripted, traced or made in C++.
///
/// Names of a tied parameter are those whose tensors have the same memory and geometry. A traced module has the device
/// of its tracing written into its code: such constants follow the module to its device.
class TorchScriptRunner final : public ModelRunner {
 public:
  /// @param origin   the file, or what the model is called, for messages
  /// @throws InputError if there is no parameter, or one holds a value that is not finite
  TorchScriptRunner(torch::jit::Module module, at::Device device, std::string origin, OpenOptions options = {});

  const std::vector<std::string>& parameter_names() const override { return parameter_names_; }
  const std::map<std::string, std::string>& aliases() const override { return aliases_; }
  NamedTensors parameters() const override;
  NamedTensors buffers() const override;
  void set(const NamedTensors& values) override;
  /// Passes `batch.inputs` by position and `batch.named_inputs` by name.
  /// @throws InputError if the model takes other inputs, fails on these, or returns no tensor that is its output
  /// (models/model_call.h)
  at::Tensor forward(const Batch& batch) override;
  void set_training(bool on) override { module_.train(on); }
  at::Device device() const override { return device_; }
  /// The file holds a model on the CPU, whose floating parameters require gradients, as a new module's do.
  void save(const std::filesystem::path& path) const override;

  /// @throws InputError unless each of `values` has name, shape and dtype of a parameter or buffer
  void require_fitting(const NamedTensors& values) const;
  const torch::jit::Module& module() const { return module_; }

 private:
  torch::jit::Module module_;
  at::Device device_;
  std::string origin_;
  OpenOptions options_;
  std::vector<std::string> parameter_names_;
  std::map<std::string, std::string> aliases_;
};

/// For modules that are made in C++.
std::unique_ptr<ModelRunner> runner_from_module(torch::jit::Module module, at::Device device = at::kCPU,
                                                OpenOptions options = {});

/// Reads a TorchScript file, of one task or many.
/// @throws InputError if the file is missing, truncated or no TorchScript
torch::jit::Module load_module(const std::filesystem::path& path, at::Device device);

/// Writes a module as it stands: aside, synced, renamed.
/// @throws InputError if the file cannot be written (no space, no permission)
void save_module(const torch::jit::Module& module, const std::filesystem::path& path);

/// Puts `tensor` in the place of the parameter or buffer `name` ("body.blocks.0.norm.weight").
void set_tensor(const torch::jit::Module& module, const std::string& name, const at::Tensor& tensor);

/// The tasks of a multi-task module (`save_multitask`), in its order; empty for a model of one task.
std::vector<std::string> tasks_of(const torch::jit::Module& module);

}  // namespace amalgam
