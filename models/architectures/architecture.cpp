#include "models/architectures/architecture.h"

#include "core/error.h"
#include "core/random.h"
#include "models/architectures/convolutional.h"
#include "models/architectures/mlp.h"
#include "models/architectures/vision_transformer.h"
#include "models/torchscript_runner.h"

namespace amalgam {
namespace {

using torch::jit::Module;
using Shape = std::vector<int64_t>;

struct Architecture {
  std::string name;
  Module (*make)(const YAML::Node& options, const Shape& input_shape, int64_t classes, at::Generator& generator);
  YAML::Node (*resolve)(const YAML::Node& options, const std::string& where);
  std::vector<OptionSet::Description> (*describe)();
};

template <class Options, Module (*make)(const Options&, const Shape&, int64_t, at::Generator&)>
Architecture architecture(const std::string& name) {
  static const auto read = [](const YAML::Node& node, const std::string& where) {
    Options options;
    read_options(options, node, where);
    return options;
  };
  return {name,
          [](const YAML::Node& node, const Shape& input_shape, int64_t classes, at::Generator& generator) {
            return make(read(node, "options"), input_shape, classes, generator);
          },
          [](const YAML::Node& node, const std::string& where) { return write_options(read(node, where)); },
          [] {
            Options options;
            OptionSet set;
            options.declare(set);
            return set.describe();
          }};
}

const std::vector<Architecture>& table() {
  static const std::vector<Architecture> architectures = {
      architecture<VisionTransformerOptions, vision_transformer>("vision_transformer"),
      architecture<ConvolutionalOptions, convolutional>("convolutional"),
      architecture<MlpOptions, mlp>("mlp"),
  };
  return architectures;
}

const Architecture& find(const std::string& name) {
  for (const Architecture& architecture : table())
    if (architecture.name == name) return architecture;
  throw InputError(fmt::format("unknown architecture '{}'{}", name, suggestion(name, architecture_names())));
}

}  // namespace

const std::vector<std::string>& architecture_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list;
    for (const Architecture& architecture : table()) list.push_back(architecture.name);
    return list;
  }();
  return names;
}

std::unique_ptr<ModelRunner> make_architecture(const std::string& name, const YAML::Node& options,
                                               const Shape& input_shape, int64_t classes, uint64_t seed,
                                               at::Device device) {
  const Architecture& architecture = find(name);
  require_input(input_shape.size() == 3,
                "architecture '{}' takes examples of [channels, height, width], not of {} axes", name,
                input_shape.size());
  require_input(classes >= 1, "architecture '{}' needs at least one class, not {}", name, classes);
  at::Generator generator = RandomStream(seed, "architecture").generator();
  return runner_from_module(architecture.make(options, input_shape, classes, generator), device);
}

YAML::Node resolve_architecture_options(const std::string& name, const YAML::Node& options, const std::string& where) {
  return find(name).resolve(options, where);
}

std::vector<OptionSet::Description> describe_architecture_options(const std::string& name) {
  return find(name).describe();
}

}  // namespace amalgam
