#include "solvers/linear/item_products.h"

namespace amalgam {

bool multiplied_alone(const at::Tensor& matrices) {
  constexpr int64_t kElements = 128 * 128;
  return matrices.device().is_cpu() && matrices.size(1) * matrices.size(2) >= kElements;
}

void multiply_items(at::Tensor& out, const at::Tensor& a, const at::Tensor& b, const std::vector<int64_t>& items) {
  if (!multiplied_alone(out)) {
    at::bmm_out(out, a, b);
    return;
  }
  for (const int64_t item : items) {
    at::Tensor product = out[item];
    at::mm_out(product, a[item], b[item]);
  }
}

}  // namespace amalgam
