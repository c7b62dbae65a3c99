#include "tests/models/tap_models.h"

#include <fmt/format.h>
#include <torch/csrc/jit/frontend/tracer.h>
#include <torch/torch.h>

#include <limits>

#include "models/loss.h"
#include "models/torchscript_runner.h"

namespace amalgam::test {
namespace {

/// Threads would only wait for one another: the tensors are tiny.
class OneThread final : public ::testing::Environment {
 public:
  void SetUp() override { at::set_num_threads(1); }
};
const auto* const one_thread = ::testing::AddGlobalTestEnvironment(new OneThread);

/// The submodule that holds `name`, made where it is missing, and the name within it.
std::pair<torch::jit::Module, std::string> owner_of(torch::jit::Module module, std::string name) {
  for (size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.')) {
    const std::string child = name.substr(0, dot);
    name.erase(0, dot + 1);
    if (!module.hasattr(child)) module.register_module(child, torch::jit::Module(child));
    module = module.attr(child).toModule();
  }
  return {module, name};
}

void trace_forward(torch::jit::Module& module, const TapModel& model) {
  NamedTensors tensors;
  for (const auto& parameter : module.named_parameters()) tensors.emplace(parameter.name, parameter.value);
  for (const auto& buffer : module.named_buffers()) tensors.emplace(buffer.name, buffer.value);
  torch::jit::Stack inputs;
  std::vector<std::string> names;
  for (const at::Tensor& input : narrow(model.data, 0, 2).inputs) {
    names.push_back(fmt::format("x{}", inputs.size()));
    inputs.emplace_back(input);
  }
  const auto forward = [&](torch::jit::Stack arguments) {
    Inputs given;
    for (const c10::IValue& argument : arguments) given.push_back(argument.toTensor());
    return torch::jit::Stack{model.eager(tensors, given)};
  };
  const auto no_name = [](const at::Tensor&) { return std::string(); };
  const auto traced = torch::jit::tracer::trace(inputs, forward, no_name, true, false, &module, names);
  const c10::QualifiedName name(*module.type()->name(), "forward");
  module.type()->addMethod(module._ivalue()->compilation_unit()->create_function(name, traced.first->graph));
}

/// [examples, parameter...] of one use of a layer; the names of weight and bias may be empty.
void add_use(const Layer& layer, const LayerUse& use, int64_t example, at::Tensor weight, at::Tensor bias) {
  const at::Tensor gradient = use.output_gradient[example];  // [T, out]
  const bool is_slice = layer.kind == LayerKind::kLinear;
  const auto rows = [&](const at::Tensor& whole, int64_t axis) {
    return is_slice ? whole.narrow(axis, layer.row_begin, layer.row_end - layer.row_begin) : whole;
  };
  if (bias.defined()) rows(bias, 0).add_(gradient.sum(0).view_as(rows(bias, 0)));
  if (!weight.defined()) return;
  switch (layer.kind) {
    case LayerKind::kLinear: {
      const at::Tensor product = gradient.t().mm(use.input[example]);  // [out, in]
      rows(weight, layer.transposed ? 1 : 0).add_(layer.transposed ? product.t() : product);
      break;
    }
    case LayerKind::kConvolution: {
      const at::AutoGradMode enable(true);
      const at::Tensor variable = at::zeros(weight.sizes(), weight.options()).requires_grad_();
      const std::vector<int64_t> no_padding(layer.kernel.size(), 0);
      const bool several = use.input.dim() == 3 + static_cast<int64_t>(layer.kernel.size());
      const at::Tensor images = several ? use.input[example] : use.input[example].unsqueeze(0);
      const at::Tensor output = at::convolution(images, variable, {}, layer.stride, layer.padding, layer.dilation,
                                                false, no_padding, layer.groups);
      const at::Tensor by_image = gradient.view({images.size(0), -1, layer.out}).transpose(1, 2);
      weight.add_(torch::autograd::grad({output}, {variable}, {by_image.reshape(output.sizes())})[0]);
      break;
    }
    case LayerKind::kEmbedding:
      weight.index_add_(0, use.input[example], gradient);
      break;
    case LayerKind::kLayerNorm:
    case LayerKind::kBatchNorm:
    case LayerKind::kRmsNorm:
    case LayerKind::kGroupNorm:
    case LayerKind::kInstanceNorm:
    case LayerKind::kScale:
      weight.add_((gradient * use.input[example]).sum(0).view_as(weight));
      break;
    case LayerKind::kBias:
      FAIL() << "a bias has no weight";
  }
}

}  // namespace

torch::jit::Module make_module(const TapModel& model, Made made) {
  torch::jit::Module module(model.name);
  for (const auto& [name, tensor] : model.parameters) {
    auto [owner, own_name] = owner_of(module, name);
    owner.register_parameter(own_name, tensor.clone(), false);
  }
  for (const auto& [name, tensor] : model.buffers) {
    auto [owner, own_name] = owner_of(module, name);
    owner.register_buffer(own_name, tensor.clone());
  }
  if (made == Made::kScripted) {
    module.define(model.source);
  } else {
    trace_forward(module, model);
  }
  return module;
}

std::unique_ptr<ModelRunner> make_runner(const TapModel& model, Made made) {
  return runner_from_module(make_module(model, made));
}

at::Tensor numbers(at::IntArrayRef shape, uint64_t seed, double scale) {
  return scale * at::randn(shape, at::make_generator<at::CPUGeneratorImpl>(seed), at::TensorOptions(at::kDouble));
}

Batch make_batch(Inputs inputs, int64_t classes, std::vector<int64_t> target_shape) {
  Batch batch;
  batch.count = inputs[0].size(0);
  batch.inputs = std::move(inputs);
  batch.target = at::arange(c10::multiply_integers(target_shape)).mul(7).remainder(classes).view(target_shape);
  batch.ids = at::arange(batch.count) + 100;
  return batch;
}

Batch narrow(const Batch& batch, int64_t begin, int64_t examples) {
  Batch part = batch;
  for (at::Tensor& input : part.inputs) input = input.narrow(0, begin, examples);
  for (at::Tensor* tensor : {&part.target, &part.mask, &part.ids})
    if (tensor->defined()) *tensor = tensor->narrow(0, begin, examples);
  part.count = examples;
  return part;
}

bool BatchSlices::next(Batch& batch) {
  const int64_t count = std::min(size_, all_.count - position_);
  if (count <= 0) return false;
  batch = narrow(all_, position_, count);
  position_ += count;
  return true;
}

NamedTensors gradients_by_example(const Recorder& recorder, const NamedTensors& shapes) {
  std::map<std::string, std::vector<at::Tensor>> examples;
  for (size_t b = 0; b < recorder.counts.size(); ++b) {
    NamedTensors sums;  // [examples of the batch, ...]
    for (const auto& seen : recorder.batches[b]) {
      const auto sum_of = [&](const std::string& name) {
        if (name.empty()) return at::Tensor();
        std::vector<int64_t> shape = shapes.at(name).sizes().vec();
        shape.insert(shape.begin(), recorder.counts[b]);
        return sums.emplace(name, at::zeros(shape, at::kDouble)).first->second;
      };
      const at::Tensor weight = sum_of(seen.layer.weight), bias = sum_of(seen.layer.bias);
      for (const LayerUse& use : seen.uses)
        for (int64_t n = 0; n < recorder.counts[b]; ++n)
          add_use(seen.layer, use, n, weight.defined() ? weight[n] : weight, bias.defined() ? bias[n] : bias);
    }
    for (const auto& [name, sum] : sums) examples[name].push_back(sum);
  }
  NamedTensors result;
  for (const auto& [name, parts] : examples) result.emplace(name, at::cat(parts));
  return result;
}

NamedTensors autograd_by_example(const TapModel& model) { return autograd_by_example(*make_runner(model), model.data); }

NamedTensors autograd_by_example(ModelRunner& runner, const Batch& data) {
  const at::AutoGradMode enable(true);
  const NamedTensors parameters = runner.parameters();
  std::vector<std::string> names;
  std::vector<at::Tensor> variables;
  for (const auto& [name, tensor] : parameters) {
    names.push_back(name);
    variables.push_back(tensor.requires_grad_());
  }
  std::map<std::string, std::vector<at::Tensor>> rows;
  for (int64_t n = 0; n < data.count; ++n) {
    const Batch one = narrow(data, n, 1);
    const at::Tensor loss = example_losses("cross_entropy", runner.forward(one), one.target).sum();
    const auto gradients = torch::autograd::grad({loss}, variables, {}, false, false, /*allow_unused=*/true);
    for (size_t i = 0; i < names.size(); ++i)
      rows[names[i]].push_back(gradients[i].defined() ? gradients[i] : at::zeros_like(variables[i]));
  }
  NamedTensors result;
  for (const auto& [name, parts] : rows) result.emplace(name, at::stack(parts));
  return result;
}

::testing::AssertionResult nearly_equal(const at::Tensor& a, const at::Tensor& b, double c) {
  if (a.sizes() != b.sizes()) return ::testing::AssertionFailure() << "shapes " << a.sizes() << " and " << b.sizes();
  const double difference = (a - b).abs().max().item<double>(), magnitude = b.abs().max().item<double>();
  if (difference <= c * std::numeric_limits<double>::epsilon() * magnitude) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "differ by " << difference << " where the largest is " << magnitude;
}

}  // namespace amalgam::test
