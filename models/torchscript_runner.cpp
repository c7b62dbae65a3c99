#include "models/torchscript_runner.h"

#include <fmt/ranges.h>

#include <tuple>
#include <utility>

#include "core/atomic_file.h"
#include "core/error.h"
#include "models/model_call.h"

namespace amalgam {
namespace {

/// What LibTorch says, without its stack: one line.
std::string reason_of(const std::exception& error) {
  const auto* own = dynamic_cast<const c10::Error*>(&error);
  std::string text = own != nullptr ? own->what_without_backtrace() : error.what();
  // The interpreter puts the model's code first and the reason last.
  constexpr std::string_view kReason = "RuntimeError: ";
  if (const size_t at = text.rfind(kReason); at != std::string::npos) text.erase(0, at + kReason.size());
  return text.substr(0, text.find('\n'));
}

void move_constants(torch::jit::Block* block, at::Device device) {
  namespace attr = torch::jit::attr;
  for (torch::jit::Node* node : block->nodes()) {
    for (torch::jit::Block* inner : node->blocks()) move_constants(inner, device);
    if (node->kind() != torch::jit::prim::Constant || !node->hasAttribute(attr::value)) continue;
    if (node->output()->type()->kind() == c10::TypeKind::DeviceObjType) {
      node->s_(attr::value, device.str());
    } else if (node->kindOf(attr::value) == torch::jit::AttributeKind::t) {
      node->t_(attr::value, node->t(attr::value).to(device));
    }
  }
}

/// Tracing writes the device into the code (`arange(device=x.device)` becomes `device="cpu"`): writes another one
/// there. Plans that were made before keep theirs.
void move_constants(const torch::jit::Module& module, at::Device device) {
  for (const torch::jit::Module& part : module.modules())
    for (const torch::jit::Method& method : part.get_methods()) move_constants(method.graph()->block(), device);
}

/// The code names the CPU in this scope. Copies of a module share its code.
class ConstantsOnCpu {
 public:
  ConstantsOnCpu(const torch::jit::Module& module, at::Device back) : module_(module), back_(back) {
    if (!back_.is_cpu()) move_constants(module_, at::kCPU);
  }
  ~ConstantsOnCpu() {
    if (!back_.is_cpu()) move_constants(module_, back_);
  }
  ConstantsOnCpu(const ConstantsOnCpu&) = delete;
  ConstantsOnCpu& operator=(const ConstantsOnCpu&) = delete;

 private:
  const torch::jit::Module& module_;
  at::Device back_;
};

/// Tensors of one memory and geometry are one parameter.
using Place = std::tuple<const void*, std::vector<int64_t>, std::vector<int64_t>>;

Place place_of(const at::Tensor& tensor) {
  return {tensor.const_data_ptr(), tensor.sizes().vec(), tensor.strides().vec()};
}

/// An accelerator without room throws c10::OutOfMemoryError, but TorchScript's interpreter hands on nothing but text.
bool says_out_of_memory(const std::string& reason) { return reason.find("out of memory") != std::string::npos; }

TensorInfo info_of(const at::Tensor& tensor) { return {tensor.scalar_type(), tensor.sizes().vec()}; }

/// To be thrown, and not to be made before: the nearest of many names takes longer to find than a step of a search.
InputError unknown_tensor(const std::string& origin, const std::string& name, const NamedTensors& own) {
  std::vector<std::string> names;
  for (const auto& [known, tensor] : own) names.push_back(known);
  return InputError(
      fmt::format("{}: the model has no parameter or buffer '{}'{}", origin, name, suggestion(name, names)));
}

}  // namespace

TorchScriptRunner::TorchScriptRunner(torch::jit::Module module, at::Device device, std::string origin,
                                     OpenOptions options)
    : module_(std::move(module)), device_(device), origin_(std::move(origin)), options_(std::move(options)) {
  require_input(module_.find_method("forward").has_value(), "{}: the model has no 'forward'", origin_);
  std::map<Place, torch::jit::NameTensor> first_of;
  for (const auto& parameter : module_.named_parameters()) {
    parameter.value.requires_grad_(false);
    const auto [first, is_new] = first_of.emplace(place_of(parameter.value), parameter);
    if (!is_new && parameter.value.numel() > 0) {
      aliases_.emplace(parameter.name, first->second.name);
      continue;
    }
    require_input(at::isfinite(parameter.value).all().item<bool>(),
                  "{}: parameter '{}' holds a value that is not finite (NaN or infinity); the training of this model "
                  "diverged, or the file is damaged",
                  origin_, parameter.name);
    parameter_names_.push_back(parameter.name);
  }
  require_input(!parameter_names_.empty(),
                "{}: the model has no parameters, so it is frozen and cannot be merged; export it unfrozen "
                "(torch.jit.script(model).save(path), without torch.jit.freeze or optimize_for_inference)",
                origin_);
  // One tensor object under all names of a tied parameter, or gradients would not meet.
  const NamedTensors firsts = parameters();
  for (const auto& [alias, name] : aliases_) set_tensor(module_, alias, firsts.at(name));
  move_constants(module_, device_);
  module_.eval();
}

NamedTensors TorchScriptRunner::parameters() const {
  NamedTensors tensors;
  for (const auto& parameter : module_.named_parameters())
    if (!aliases_.contains(parameter.name)) tensors.emplace(parameter.name, parameter.value);
  return tensors;
}

NamedTensors TorchScriptRunner::buffers() const {
  NamedTensors tensors;
  for (const auto& buffer : module_.named_buffers()) tensors.emplace(buffer.name, buffer.value);
  return tensors;
}

void TorchScriptRunner::require_fitting(const NamedTensors& values) const {
  NamedTensors own = parameters();
  own.merge(buffers());
  for (const auto& [name, value] : values) {
    const auto found = own.find(name);
    if (found == own.end()) throw unknown_tensor(origin_, name, own);
    const TensorInfo expected = info_of(found->second), given = info_of(value);
    require_input(expected == given, "{}: '{}' is {}, and the value given for it {}", origin_, name, describe(expected),
                  describe(given));
  }
}

void TorchScriptRunner::set(const NamedTensors& values) {
  require_fitting(values);
  const at::NoGradGuard no_grad;
  NamedTensors own = parameters();
  own.merge(buffers());
  for (const auto& [name, value] : values) own.at(name).copy_(value);
}

at::Tensor TorchScriptRunner::forward(const Batch& batch) {
  require_arguments(module_.get_method("forward").function().getSchema(), batch, origin_);
  std::vector<c10::IValue> inputs(batch.inputs.begin(), batch.inputs.end());
  torch::jit::Kwargs named;
  for (const auto& [name, input] : batch.named_inputs) named.emplace(name, input);
  c10::IValue returned;
  try {
    returned = module_.forward(std::move(inputs), named);
  } catch (const c10::OutOfMemoryError&) {
    throw;
  } catch (const std::exception& error) {
    const std::string reason = reason_of(error);
    TORCH_CHECK_WITH(OutOfMemoryError, !says_out_of_memory(reason), reason);
    std::vector<std::string> shapes;
    for (const at::Tensor& input : batch.inputs) shapes.push_back(describe(info_of(input)));
    for (const auto& [name, input] : batch.named_inputs) shapes.push_back(name + ": " + describe(info_of(input)));
    throw InputError(
        fmt::format("{}: the model does not run on inputs ({}): {}", origin_, fmt::join(shapes, ", "), reason));
  }
  return chosen_output(returned, options_.output, origin_);
}

void TorchScriptRunner::save(const std::filesystem::path& path) const {
  torch::jit::Module copy = module_.deepcopy(at::kCPU);
  // On the CPU the copy shares our tensors: others are put in their place before they change.
  std::map<const c10::TensorImpl*, at::Tensor> fresh;
  for (const auto& parameter : copy.named_parameters()) {
    at::Tensor& tensor = fresh[parameter.value.unsafeGetTensorImpl()];
    if (!tensor.defined()) tensor = parameter.value.detach().requires_grad_(parameter.value.is_floating_point());
    set_tensor(copy, parameter.name, tensor);
  }
  const ConstantsOnCpu scope(module_, device_);
  save_module(copy, path);
}

std::unique_ptr<ModelRunner> runner_from_module(torch::jit::Module module, at::Device device, OpenOptions options) {
  module.to(device);
  return std::make_unique<TorchScriptRunner>(std::move(module), device, "a new model", std::move(options));
}

std::unique_ptr<ModelRunner> open_model(const std::filesystem::path& path, at::Device device,
                                        const OpenOptions& options) {
  torch::jit::Module module = load_module(path, device);
  const std::vector<std::string> tasks = tasks_of(module);
  require_input(tasks.empty(), "{}: this is a model of many tasks; say which one to open (it has: {})", path.string(),
                fmt::join(tasks, ", "));
  return std::make_unique<TorchScriptRunner>(std::move(module), device, path.string(), options);
}

torch::jit::Module load_module(const std::filesystem::path& path, at::Device device) {
  require_input(std::filesystem::exists(path), "{}: no such file", path.string());
  require_input(std::filesystem::is_regular_file(path), "{}: not a file", path.string());
  try {
    return torch::jit::load(path.string(), device);
  } catch (const c10::OutOfMemoryError&) {
    throw;
  } catch (const std::exception& error) {
    throw InputError(
        fmt::format("{}: not a TorchScript file, or a damaged one (LibTorch says: {}); expected is what "
                    "torch.jit.script(model).save(path) or torch.jit.trace(model, inputs).save(path) writes",
                    path.string(), reason_of(error)));
  }
}

void save_module(const torch::jit::Module& module, const std::filesystem::path& path) {
  AtomicFile file(path);
  try {
    module.save(file.temporary().string());
  } catch (const std::exception& error) {
    throw InputError(fmt::format("{}: cannot be written ({})", path.string(), reason_of(error)));
  }
  file.commit();
}

void set_tensor(const torch::jit::Module& module, const std::string& name, const at::Tensor& tensor) {
  torch::jit::Module owner = module;
  size_t begin = 0;
  for (size_t dot = name.find('.'); dot != std::string::npos; begin = dot + 1, dot = name.find('.', begin))
    owner = owner.attr(name.substr(begin, dot - begin)).toModule();
  owner.setattr(name.substr(begin), tensor);
}

std::vector<std::string> tasks_of(const torch::jit::Module& module) {
  const auto forward = module.find_method("forward");
  if (!forward) return {};
  const auto& arguments = forward->function().getSchema().arguments();  // self, task, inputs…
  if (arguments.size() < 2 || arguments[1].name() != "task" || arguments[1].type()->kind() != c10::TypeKind::StringType)
    return {};
  std::vector<std::string> tasks;
  for (const auto& child : module.named_children())
    if (!child.name.starts_with('_')) tasks.push_back(child.name);
  return tasks;
}

}  // namespace amalgam
