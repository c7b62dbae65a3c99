#include "stats/gram.h"

#include "core/symmetric_product.h"
#include "stats/rows.h"

namespace amalgam {
namespace {

// Double precision goes into float32 sums as float32.
at::Tensor fitted(const at::Tensor& rows, const at::Tensor& sum) {
  return sum.scalar_type() == at::kFloat ? rows.to(at::kFloat) : rows;
}

}  // namespace

void add_row_count(const Layer& layer, const LayerUse& use, at::Tensor& rows) {
  if (use.mask.defined())
    rows.add_(use.mask.sum());
  else
    rows.add_(examples_of(use) * positions_of(layer, use));
}

void add_input_gram(const Layer& layer, const LayerUse& use, at::Tensor& gram, at::Tensor& sum, int64_t limit_bytes) {
  at::Tensor grams = gram.view({layer.groups, layer.in, layer.in});
  at::Tensor sums = sum.view({layer.groups, layer.in});
  const int64_t bytes = layer.groups * positions_of(layer, use) * layer.in * use.input.element_size();
  for_each_chunk(examples_of(use), bytes, limit_bytes, [&](int64_t begin, int64_t count) {
    const LayerUse part = narrow(use, begin, count);
    const at::Tensor kept = zero_unless_kept(input_rows(layer, part.input), part.mask);
    const at::Tensor rows = fitted(kept.flatten(1, 2), gram);  // [groups, N T, in]
    add_symmetric_product(rows, grams);
    sums.add_(rows.sum(1));
  });
}

void add_output_gram(const Layer& layer, const LayerUse& use, at::Tensor& gram, int64_t limit_bytes) {
  const int64_t units = layer.out / layer.groups;
  at::Tensor grams = gram.view({layer.groups, units, units});
  const int64_t bytes = positions_of(layer, use) * layer.out * use.output_gradient.element_size();
  for_each_chunk(examples_of(use), bytes, limit_bytes, [&](int64_t begin, int64_t count) {
    const LayerUse part = narrow(use, begin, count);
    const at::Tensor kept = zero_unless_kept(output_rows(layer, part.output_gradient), part.mask);
    add_symmetric_product(fitted(kept.flatten(1, 2), gram), grams);  // [groups, N T, out/groups]
  });
}

}  // namespace amalgam
