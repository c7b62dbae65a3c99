#include "stats/gram.h"

#include "core/symmetric_product.h"
#include "stats/rows.h"

namespace amalgam {
namespace {

// Double precision goes into float32 sums as float32.
at::Tensor fitted(const at::Tensor& rows, const at::Tensor& sum) {
  return sum.scalar_type() == at::kFloat ? rows.to(at::kFloat) : rows;
}

// [N]: the rows of each example that the masks keep, over all uses.
at::Tensor kept_rows(const Layer& layer, const std::vector<LayerUse>& uses) {
  at::Tensor kept = at::zeros({examples_of(uses[0])}, at::dtype(at::kLong).device(uses[0].input.device()));
  for (const LayerUse& use : uses)
    if (use.mask.defined())
      kept.add_(use.mask.sum(1));
    else
      kept.add_(positions_of(layer, use));
  return kept;
}

}  // namespace

void add_row_count(const Layer& layer, const LayerUse& use, at::Tensor& rows) {
  if (use.mask.defined())
    rows.add_(use.mask.sum());
  else
    rows.add_(examples_of(use) * positions_of(layer, use));
}

void add_gram(const at::Tensor& x, at::Tensor& gram, int64_t block) {
  const int64_t groups = x.size(0), width = x.size(2);
  const at::Tensor rows = fitted(x, gram);
  if (block == 0) {
    at::Tensor whole = gram.view({groups, width, width});
    add_lower_product(rows, whole);
  } else if (block == 1) {
    gram.view({groups, width}).add_(rows.square().sum(1, /*keepdim=*/false, gram.scalar_type()));
  } else {
    const int64_t blocks = (width + block - 1) / block;
    const at::Tensor filled = at::constant_pad_nd(rows, {0, blocks * block - width});  // [groups, rows, blocks block]
    const at::Tensor cut = filled.unflatten(2, {blocks, block}).permute({0, 2, 1, 3}).flatten(0, 1);
    at::Tensor on_diagonal = gram.view({groups * blocks, block, block});
    add_lower_product(cut.contiguous(), on_diagonal);
  }
}

void add_input_gram(const Layer& layer, const LayerUse& use, at::Tensor& gram, at::Tensor& sum, int64_t limit_bytes,
                    int64_t block) {
  at::Tensor sums = sum.view({layer.groups, layer.in});
  const int64_t bytes = layer.groups * positions_of(layer, use) * layer.in * use.input.element_size();
  for_each_chunk(examples_of(use), bytes, limit_bytes, [&](int64_t begin, int64_t count) {
    const LayerUse part = narrow(use, begin, count);
    const at::Tensor kept = zero_unless_kept(input_rows(layer, part.input), part.mask);
    const at::Tensor rows = kept.flatten(1, 2);  // [groups, N T, in]
    add_gram(rows, gram, block);
    sums.add_(fitted(rows, sum).sum(1));
  });
}

void add_output_gram(const Layer& layer, const LayerUse& use, at::Tensor& gram, int64_t limit_bytes, int64_t block) {
  const int64_t bytes = positions_of(layer, use) * layer.out * use.output_gradient.element_size();
  for_each_chunk(examples_of(use), bytes, limit_bytes, [&](int64_t begin, int64_t count) {
    const LayerUse part = narrow(use, begin, count);
    const at::Tensor kept = zero_unless_kept(output_rows(layer, part.output_gradient), part.mask);
    add_gram(kept.flatten(1, 2), gram, block);  // [groups, N T, out/groups]
  });
}

void add_reduced_row_count(const Layer& layer, const std::vector<LayerUse>& uses, at::Tensor& rows) {
  rows.add_(kept_rows(layer, uses).gt(0).sum());
}

void add_reduced_input_gram(const Layer& layer, const std::vector<LayerUse>& uses, at::Tensor& gram, at::Tensor& sum,
                            int64_t limit_bytes, int64_t block) {
  at::Tensor sums = sum.view({layer.groups, layer.in});
  const at::Tensor kept = kept_rows(layer, uses).clamp_min(1).unsqueeze(1);  // [N, 1]
  int64_t positions = 0;
  for (const LayerUse& use : uses) positions += positions_of(layer, use);
  const int64_t bytes = layer.groups * positions * layer.in * uses[0].input.element_size();
  for_each_chunk(examples_of(uses[0]), bytes, limit_bytes, [&](int64_t begin, int64_t count) {
    at::Tensor total;  // [groups, N, in]
    for (const LayerUse& use : uses) {
      const LayerUse part = narrow(use, begin, count);
      const at::Tensor of_use = zero_unless_kept(input_rows(layer, part.input), part.mask).sum(2);
      total = total.defined() ? total + of_use : of_use;
    }
    const at::Tensor mean = total / kept.narrow(0, begin, count);
    add_gram(mean, gram, block);
    sums.add_(fitted(mean, sum).sum(1));
  });
}

void add_reduced_output_gram(const Layer& layer, const std::vector<LayerUse>& uses, at::Tensor& gram,
                             int64_t limit_bytes, int64_t block) {
  const int64_t bytes = 2 * positions_of(layer, uses[0]) * layer.out * static_cast<int64_t>(sizeof(float));
  for_each_chunk(examples_of(uses[0]), bytes, limit_bytes, [&](int64_t begin, int64_t count) {
    at::Tensor total;  // [groups, N, out/groups]
    for (const LayerUse& use : uses) {
      if (!use.output_gradient.defined()) continue;
      const LayerUse part = narrow(use, begin, count);
      const at::Tensor of_use = zero_unless_kept(output_rows(layer, part.output_gradient), part.mask).sum(2);
      total = total.defined() ? total + of_use : of_use;
    }
    if (total.defined()) add_gram(total, gram, block);
  });
}

}  // namespace amalgam
