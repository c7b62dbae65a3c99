#include "models/architectures/layers.h"

#include <fmt/format.h>

#include <cmath>
#include <numbers>

namespace amalgam {

using torch::jit::Module;

at::Tensor truncated_normal(at::IntArrayRef shape, double deviation, at::Generator& generator) {
  // By inversion: erf(2 / √2) is the mass within two deviations.
  const double mass = std::erf(std::numbers::sqrt2);
  const at::Tensor uniform = at::empty(shape, at::kDouble).uniform_(-mass, mass, generator);
  return at::erfinv(uniform).mul_(std::numbers::sqrt2 * deviation).to(at::kFloat);
}

at::Tensor kaiming_normal(at::IntArrayRef shape, at::Generator& generator) {
  const auto inputs = static_cast<double>(c10::multiply_integers(shape.slice(1)));
  return at::empty(shape).normal_(0.0, std::sqrt(2.0 / inputs), generator);
}

Module empty_module(const std::string& type) {
  Module module(type);
  module.register_attribute("training", c10::BoolType::get(), true);
  return module;
}

Module linear_layer(const at::Tensor& weight) {
  Module module = empty_module("Linear");
  module.register_parameter("weight", weight, false);
  module.register_parameter("bias", at::zeros({weight.size(0)}), false);
  module.define(R"(
def forward(self, x: Tensor) -> Tensor:
    return torch.linear(x, self.weight, self.bias)
)");
  return module;
}

Module layer_norm(int64_t width) {
  Module module = empty_module("LayerNorm");
  module.register_parameter("weight", at::ones({width}), false);
  module.register_parameter("bias", at::zeros({width}), false);
  module.define(fmt::format(R"(
def forward(self, x: Tensor) -> Tensor:
    return torch.layer_norm(x, [{}], self.weight, self.bias)
)",
                            width));
  return module;
}

Module convolution_layer(const at::Tensor& weight, const ConvolutionShape& shape) {
  Module module = empty_module("Convolution");
  module.register_parameter("weight", weight, false);
  if (shape.bias) module.register_parameter("bias", at::zeros({weight.size(0)}), false);
  module.define(fmt::format(R"(
def forward(self, x: Tensor) -> Tensor:
    return torch.conv2d(x, self.weight, {bias}, [{stride}, {stride}], [{padding}, {padding}], [1, 1], {groups})
)",
                            fmt::arg("bias", shape.bias ? "self.bias" : "None"), fmt::arg("stride", shape.stride),
                            fmt::arg("padding", weight.size(2) / 2), fmt::arg("groups", shape.groups)));
  return module;
}

Module batch_norm(int64_t channels) {
  Module module = empty_module("BatchNorm");
  module.register_parameter("weight", at::ones({channels}), false);
  module.register_parameter("bias", at::zeros({channels}), false);
  module.register_buffer("running_mean", at::zeros({channels}));
  module.register_buffer("running_var", at::ones({channels}));
  module.define(R"(
def forward(self, x: Tensor) -> Tensor:
    return torch.batch_norm(x, self.weight, self.bias, self.running_mean, self.running_var, self.training, 0.1, 1e-5, True)
)");
  return module;
}

Module sequence(const std::string& type, const NamedModules& parts, const std::string& after) {
  Module module = empty_module(type);
  std::string source = "def forward(self, x: Tensor) -> Tensor:\n";
  for (const auto& [name, part] : parts) {
    module.register_module(name, part);
    source += fmt::format("    x = getattr(self, '{}').forward(x)\n", name);  // a name may be a number
    if (!after.empty()) source += fmt::format("    x = {}\n", after);
  }
  module.define(source + "    return x\n");
  return module;
}

Module classifier(const std::string& type, const Module& body, int64_t width, int64_t classes,
                  at::Generator& generator) {
  Module module = empty_module(type);
  module.register_module("body", body);
  module.register_module("head", linear_layer(truncated_normal({classes, width}, 0.02, generator)));
  module.define(R"(
def forward(self, x: Tensor) -> Tensor:
    return self.head.forward(self.body.forward(x))
)");
  return module;
}

}  // namespace amalgam
