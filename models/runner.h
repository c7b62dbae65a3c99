#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/batch.h"
#include "core/tensor_source.h"

namespace amalgam {

/// A model that can be run, read and written. TorchScript stands behind it (`open_model`); whoever fine-tunes,
/// evaluates or taps sees nothing else, so that another kind of model can come.
class ModelRunner {
 public:
  virtual ~ModelRunner() = default;

  /// Names in the order the model declares them; a tied parameter goes by its first name only.
  virtual const std::vector<std::string>& parameter_names() const = 0;
  /// Every further name of a tied parameter -> its first name.
  virtual const std::map<std::string, std::string>& aliases() const = 0;
  /// The live tensors, not copies.
  virtual NamedTensors parameters() const = 0;
  virtual NamedTensors buffers() const = 0;
  /// Copies values into parameters and buffers of these names; the rest stays.
  /// @throws InputError for an unknown name, another shape or another dtype
  virtual void set(const NamedTensors& values) = 0;

  /// The model's output for a batch on the model's device: [N, classes], [N, T, classes], or what the loss takes.
  /// @throws c10::OutOfMemoryError if the device has no room for it
  virtual at::Tensor forward(const Batch& batch) = 0;
  /// Training or evaluation mode; a model is opened in evaluation mode, with parameters that require no gradient.
  virtual void set_training(bool on) = 0;
  virtual at::Device device() const = 0;

  /// Writes the model aside, synced, renamed.
  virtual void save(const std::filesystem::path& path) const = 0;
};

struct OpenOptions {
  /// Which tensor of what the model returns is its output: a dict's key, an attribute's name, a tuple's position ("0");
  /// empty: the only one there is.
  std::string output = {};
};

/// Opens a TorchScript file on a device.
/// @throws InputError if the file is missing, truncated or no TorchScript, if the model is frozen (it has no
/// parameters: it must be exported unfrozen), or if a parameter holds a value that is not finite (named)
std::unique_ptr<ModelRunner> open_model(const std::filesystem::path& path, at::Device device,
                                        const OpenOptions& options = {});

}  // namespace amalgam
