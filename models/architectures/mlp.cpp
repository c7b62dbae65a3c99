#include "models/architectures/mlp.h"

#include "models/architectures/layers.h"

namespace amalgam {

void MlpOptions::declare(OptionSet& set) { set.integers("hidden", hidden, {1, 1 << 20}, "units of each hidden layer"); }

torch::jit::Module mlp(const MlpOptions& options, const std::vector<int64_t>& input_shape, int64_t classes,
                       at::Generator& generator) {
  NamedModules layers;
  int64_t in = c10::multiply_integers(input_shape);
  for (const int64_t out : options.hidden) {
    layers.emplace_back(std::to_string(layers.size()), linear_layer(kaiming_normal({out, in}, generator)));
    in = out;
  }
  torch::jit::Module body = empty_module("Body");
  body.register_module("layers", sequence("Layers", layers, "torch.relu(x)"));
  body.define(R"(
def forward(self, x: Tensor) -> Tensor:
    return self.layers.forward(x.flatten(1))
)");
  return classifier("Mlp", body, in, classes, generator);
}

}  // namespace amalgam
