#include "core/symmetric_product.h"

#include <algorithm>

#include "core/symmetric_product_cuda.h"
#include "core/version.h"

namespace amalgam {
namespace {

// Up to this many columns one plain product is quicker than its blocks.
constexpr int64_t kPlainColumns = 128;

// sum [n, n] += xᵀ x on and below the diagonal; x [rows, n]. What it leaves above is not meant.
void add_lower_product(const at::Tensor& x, at::Tensor sum) {
  const int64_t n = x.size(1), half = n / 2;
  if (n <= kPlainColumns) {
    sum.addmm_(x.t(), x);
    return;
  }
  const at::Tensor left = x.narrow(1, 0, half), right = x.narrow(1, half, n - half);
  add_lower_product(left, sum.narrow(0, 0, half).narrow(1, 0, half));
  add_lower_product(right, sum.narrow(0, half, n - half).narrow(1, half, n - half));
  sum.narrow(0, half, n - half).narrow(1, 0, half).addmm_(right.t(), left);
}

// Puts the lower triangle of sum [..., n, n] in place of the upper one; by blocks, so that they stay in the cache.
void mirror(at::Tensor sum) {
  const int64_t n = sum.size(-1), half = n / 2;
  if (n <= kPlainColumns) {
    sum.copy_(sum.tril().add_(sum.tril(-1).mT()));
    return;
  }
  const at::Tensor upper = sum.narrow(-2, 0, half), lower = sum.narrow(-2, half, n - half);
  mirror(upper.narrow(-1, 0, half));
  mirror(lower.narrow(-1, half, n - half));
  upper.narrow(-1, half, n - half).copy_(lower.narrow(-1, 0, half).mT());
}

// sum += xᵀ x, all of one dtype: x [groups, rows, n], sum [groups, n, n].
void add_product(const at::Tensor& x, at::Tensor& sum) {
  if (x.size(2) <= kPlainColumns) {
    sum.baddbmm_(x.mT(), x);
  } else {
    for (int64_t group = 0; group < x.size(0); ++group) {
      at::Tensor group_sum = sum.select(0, group);
#if AMALGAM_HAS_CUDA
      if (x.is_cuda()) {
        detail::add_lower_product_cuda(x.select(0, group).contiguous(), group_sum);
        continue;
      }
#endif
      add_lower_product(x.select(0, group), group_sum);
    }
  }
  mirror(sum);
}

void check(const at::Tensor& x, const at::Tensor& sum) {
  TORCH_CHECK(x.dim() == 2 || x.dim() == 3, "x must be [rows, n] or [groups, rows, n], but is ", x.sizes());
  const int64_t n = x.size(-1);
  const auto expected = x.dim() == 2 ? std::vector<int64_t>{n, n} : std::vector<int64_t>{x.size(0), n, n};
  TORCH_CHECK(sum.sizes() == expected, "sum must be ", expected, " for x ", x.sizes(), ", but is ", sum.sizes());
  TORCH_CHECK(sum.is_contiguous(), "sum must be contiguous");
  TORCH_CHECK(x.device() == sum.device(), "x is on ", x.device(), " and sum on ", sum.device());
  TORCH_CHECK(x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble, "x must be float32 or float64, but is ",
              x.scalar_type());
  TORCH_CHECK(sum.scalar_type() == x.scalar_type() || sum.scalar_type() == at::kDouble, "sum is ", sum.scalar_type(),
              " and cannot take products in ", x.scalar_type());
}

}  // namespace

void add_symmetric_product(const at::Tensor& x, at::Tensor& sum) {
  check(x, sum);
  const at::Tensor rows = x.dim() == 2 ? x.unsqueeze(0) : x;        // [groups, rows, n]
  at::Tensor group_sums = sum.dim() == 2 ? sum.unsqueeze(0) : sum;  // [groups, n, n]
  if (x.scalar_type() == sum.scalar_type()) {
    add_product(rows, group_sums);
    return;
  }
  at::Tensor product = at::empty(group_sums.sizes(), x.options());
  for (int64_t begin = 0; begin < rows.size(1); begin += kChunkRows) {
    product.zero_();
    add_product(rows.narrow(1, begin, std::min(kChunkRows, rows.size(1) - begin)), product);
    group_sums.add_(product);
  }
}

}  // namespace amalgam
