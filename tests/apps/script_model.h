#pragma once

#include <torch/script.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "models/torchscript_runner.h"

namespace amalgam {

/// A model of these parameters ("head.weight" lies in the submodule "head"), whose forward has this source.
inline std::unique_ptr<ModelRunner> script_model(const std::vector<std::pair<std::string, at::Tensor>>& parameters,
                                                 const std::string& source) {
  torch::jit::Module module("Script");
  for (const auto& [name, tensor] : parameters) {
    const size_t dot = name.find('.');
    if (dot == std::string::npos) {
      module.register_parameter(name, tensor.clone(), false);
      continue;
    }
    const std::string child = name.substr(0, dot);
    if (!module.hasattr(child)) module.register_module(child, torch::jit::Module(child));
    module.attr(child).toModule().register_parameter(name.substr(dot + 1), tensor.clone(), false);
  }
  module.define(source);
  return runner_from_module(module);
}

}  // namespace amalgam
