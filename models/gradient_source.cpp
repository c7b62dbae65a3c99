#include "models/gradient_source.h"

#include <torch/csrc/autograd/variable.h>

namespace amalgam {
namespace {

/// The part of a base's gradient that belongs to a view of it.
at::Tensor part_of_view(const at::Tensor& base_gradient, const at::Tensor& base, const at::Tensor& view) {
  if (base.is_contiguous() && view.is_contiguous() && base.numel() == view.numel())
    return base_gradient.reshape(view.sizes());
  const at::Tensor laid_out =
      at::empty_strided(base.sizes(), base.strides(), base_gradient.options()).copy_(base_gradient);
  return laid_out.as_strided(view.sizes(), view.strides(), view.storage_offset() - base.storage_offset());
}

}  // namespace

GradientSource gradient_source(const at::Tensor& output, const std::optional<OutputPart>& part) {
  if (!output.requires_grad()) return {};
  if (!output.is_view()) return {torch::autograd::impl::gradient_edge(output), {}, {}, part};
  const at::Tensor base(output._base());
  return {torch::autograd::impl::gradient_edge(base), base.detach(), output.detach(), part};
}

at::Tensor gradient_of(const GradientSource& source, const at::Tensor& captured) {
  if (!captured.defined()) return captured;
  const at::Tensor gradient = source.base.defined() ? part_of_view(captured, source.base, source.output) : captured;
  return source.part ? gradient.narrow(source.part->axis, source.part->begin, source.part->size) : gradient;
}

}  // namespace amalgam
