#include "models/broadcast_embeddings.h"

#include <ATen/core/grad_mode.h>

#include <utility>

#include "models/for_each_tensor.h"

namespace amalgam {
namespace {

using Values = c10::ArrayRef<c10::IValue>;

bool writes_any(const c10::FunctionSchema& schema) {
  for (const auto& argument : schema.arguments())
    if (argument.alias_info() != nullptr && argument.alias_info()->isWrite()) return true;
  return false;
}

/// Whether an operator makes something of a tensor, other than views of it.
bool computes(Values results, const at::Tensor& taken) {
  bool found = false;
  for (const c10::IValue& result : results)
    for_each_tensor(result, [&](const at::Tensor& made) {
      found |= !made.is_alias_of(taken) && (made.requires_grad() || !at::GradMode::is_enabled());
    });
  return found;
}

/// Whether it is an addition of two tensors, of which the one at `argument` goes in as it is.
bool adds(const c10::FunctionSchema& schema, Values arguments, size_t argument) {
  if (schema.name() != "aten::add" && schema.name() != "aten::add_") return false;
  if (!arguments[0].isTensor() || !arguments[1].isTensor()) return false;
  return argument == 0 || arguments[2].toScalar().equal(1);
}

}  // namespace

void BroadcastEmbeddings::follow(size_t position, const LayerCall& call, const at::Tensor& output) {
  followed_.push_back({position, call.input.contiguous(), output.detach(), 0, std::nullopt});
}

bool BroadcastEmbeddings::takes(Values arguments) const {
  bool found = false;
  for (const Followed& followed : followed_)
    for (const c10::IValue& argument : arguments)
      for_each_tensor(argument, [&](const at::Tensor& taken) { found |= taken.is_alias_of(followed.output); });
  return found;
}

/// The indices are laid out as the operand is; none where the operand is no view of whole embeddings.
std::optional<BroadcastEmbeddings::Repeated> BroadcastEmbeddings::repeated_by(const Followed& followed,
                                                                              const at::Tensor& taken,
                                                                              const at::Tensor& sum) {
  const int64_t width = followed.output.size(-1), offset = taken.storage_offset() - followed.output.storage_offset();
  if (followed.output.sizes() == sum.sizes() || taken.dim() == 0 || taken.size(-1) != width || sum.size(-1) != width ||
      taken.stride(-1) != 1 || !followed.output.is_contiguous() || offset % width != 0)
    return std::nullopt;
  std::vector<int64_t> strides;
  for (int64_t axis = 0; axis + 1 < taken.dim(); ++axis) {
    const int64_t stride = taken.size(axis) == 1 ? 0 : taken.stride(axis);
    if (stride % width != 0) return std::nullopt;
    strides.push_back(stride / width);
  }
  const auto lead = [](const at::Tensor& tensor) { return tensor.sizes().slice(0, tensor.sizes().size() - 1); };
  const at::Tensor& indices = followed.indices;
  return Repeated{
      .indices = indices.as_strided(lead(taken), strides, indices.storage_offset() + offset / width).expand(lead(sum)),
      .output = taken.detach().expand(sum.sizes()),
      .output_shape = sum.sizes().vec(),
      .source = gradient_source(sum)};
}

void BroadcastEmbeddings::note(const c10::FunctionSchema& schema, Values arguments, Values results) {
  for (Followed& followed : followed_)
    for (size_t i = 0; i < arguments.size(); ++i)
      for_each_tensor(arguments[i], [&](const at::Tensor& taken) {
        if (!taken.is_alias_of(followed.output)) return;
        if (!writes_any(schema) && !computes(results, taken)) return;
        ++followed.uses;
        if (adds(schema, arguments, i)) followed.repeated = repeated_by(followed, taken, results[0].toTensor());
      });
}

void BroadcastEmbeddings::settle(std::vector<LayerCall>& calls, std::vector<GradientSource>& sources) const {
  for (const Followed& followed : followed_) {
    if (followed.uses != 1 || !followed.repeated) continue;
    LayerCall& call = calls[followed.position];
    const Repeated& repeated = *followed.repeated;
    call.input = repeated.indices;
    if (call.output.defined()) call.output = repeated.output;
    call.output_shape = repeated.output_shape;
    call.unit_axes = {static_cast<int64_t>(repeated.output_shape.size()) - 1};
    sources[followed.position] = repeated.source;
  }
}

}  // namespace amalgam
