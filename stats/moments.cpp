#include "stats/moments.h"

#include "stats/rows.h"

namespace amalgam {

void add_moments(const Layer& layer, const LayerUse& use, at::Tensor& sum, at::Tensor& square_sum,
                 int64_t limit_bytes) {
  const int64_t bytes = positions_of(layer, use) * layer.out * static_cast<int64_t>(sizeof(double));
  for_each_chunk(examples_of(use), bytes, limit_bytes, [&](int64_t begin, int64_t count) {
    const LayerUse part = narrow(use, begin, count);
    const at::Tensor kept = zero_unless_kept(part.output.to(at::kDouble), part.mask).flatten(0, 1);  // [N T, out]
    sum.add_(kept.sum(0));
    square_sum.add_(kept.square().sum(0));
  });
}

}  // namespace amalgam
