#include "core/batch.h"

namespace amalgam {
namespace {

/// The batch with `change` done to each of its tensors but the ids.
template <class Change>
Batch changed(Batch batch, const Change& change) {
  for (at::Tensor& input : batch.inputs) input = change(input);
  for (auto& [name, input] : batch.named_inputs) input = change(input);
  if (batch.target.defined()) batch.target = change(batch.target);
  if (batch.mask.defined()) batch.mask = change(batch.mask);
  return batch;
}

}  // namespace

Batch Batch::to(at::Device device) const {
  return changed(*this, [device](const at::Tensor& tensor) { return tensor.to(device, /*non_blocking=*/true); });
}

Batch Batch::narrow(int64_t begin, int64_t examples) const {
  TORCH_CHECK(begin >= 0 && examples >= 0 && begin + examples <= count, "examples ", begin, " to ", begin + examples,
              " of a batch of ", count);
  const auto part = [&](const at::Tensor& tensor) { return tensor.narrow(0, begin, examples); };
  Batch few = changed(*this, part);
  if (few.ids.defined()) few.ids = part(few.ids);
  few.count = examples;
  return few;
}

}  // namespace amalgam
