#include "core/tensor_source.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"

namespace amalgam {

std::string describe(const TensorInfo& info) {
  return fmt::format("{} [{}]", c10::getDtypeNames(info.dtype).first, fmt::join(info.shape, ", "));
}

MemoryTensors::MemoryTensors(NamedTensors tensors) : tensors_(std::move(tensors)) {
  for (const auto& [name, tensor] : tensors_) infos_[name] = {tensor.scalar_type(), tensor.sizes().vec()};
}

at::Tensor MemoryTensors::get(const std::string& name) const {
  const auto found = tensors_.find(name);
  require_input(found != tensors_.end(), "there is no tensor '{}'", name);
  return found->second;
}

}  // namespace amalgam
