// Compiled with OpenMP (LibTorch's own threads) and -O3: CMakeLists.txt.
#include "core/symmetric_product.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "core/symmetric_product_cuda.h"
#include "core/version.h"

namespace amalgam {
namespace {

// Up to this many columns one plain product is quicker than its strips.
constexpr int64_t kPlainColumns = 128;

// A strip is `height` rows of the product's lower triangle, up to and with the diagonal's block. Low strips waste less
// above the diagonal, high ones multiply faster: measured by tests/bench/symmetric_product_bench.
int64_t height_for(int64_t n) { return n < 512 ? 48 : n < 1024 ? 64 : 128; }

// sum [n, n] += the strip [height, row + height] that begins at `row`, up to the diagonal.
template <class Number, class Product>
[[gnu::always_inline]] inline void add_strip_anyhow(const Product* strip, int64_t row, int64_t height, int64_t n,
                                                    Number* sum) {
  const int64_t width = row + height;
  for (int64_t i = 0; i < height; ++i)
    for (int64_t j = 0; j <= row + i; ++j) sum[(row + i) * n + j] += strip[i * width + j];
}

#if defined(__x86_64__)
template <class Number, class Product>
[[gnu::target("avx2")]] void add_strip_avx2(const Product* strip, int64_t row, int64_t height, int64_t n, Number* sum) {
  add_strip_anyhow(strip, row, height, n, sum);
}
#endif

template <class Number, class Product>
void add_strip(const Product* strip, int64_t row, int64_t height, int64_t n, Number* sum) {
#if defined(__x86_64__)
  static const bool has_avx2 = __builtin_cpu_supports("avx2");
  if (has_avx2) return add_strip_avx2(strip, row, height, n, sum);
#endif
  add_strip_anyhow(strip, row, height, n, sum);
}

// sum [n, n] += xᵀ x on and below the diagonal, x [rows, n]: each strip is multiplied by one thread, and added while it
// is in its cache, so that half of `sum` is read and written, once.
template <class Number, class Product>
void add_strips(const at::Tensor& x, at::Tensor& sum) {
  const int64_t n = x.size(1), most = height_for(n), strips = (n + most - 1) / most;
  const at::Tensor rows = x.stride(1) == 1 ? x : x.contiguous();
  Number* numbers = sum.mutable_data_ptr<Number>();
  const int64_t threads = at::get_num_threads();
  at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
    const at::NoGradGuard no_grad;  // a thread of its own has its own mode
    at::Tensor space = at::empty({most * n}, x.options());
    for (int64_t strip = 0; strip < strips; ++strip) {
      // Strips grow: dealt out to and fro, each thread gets about as much.
      const int64_t dealt = strip % (2 * threads), owner = std::min(dealt, 2 * threads - 1 - dealt);
      if (owner < begin || owner >= end) continue;
      const int64_t row = strip * most, height = std::min(most, n - row), width = row + height;
      at::Tensor product = space.narrow(0, 0, height * width).view({height, width});
      at::mm_out(product, rows.narrow(1, row, height).t(), rows.narrow(1, 0, width));
      add_strip(product.const_data_ptr<Product>(), row, height, n, numbers);
    }
  });
}

void add_strips_of_any_dtype(const at::Tensor& x, at::Tensor& sum) {
  if (x.scalar_type() == at::kDouble)
    add_strips<double, double>(x, sum);
  else if (sum.scalar_type() == at::kDouble)
    add_strips<double, float>(x, sum);
  else
    add_strips<float, float>(x, sum);
}

// sum += xᵀ x on and below the diagonal, all of one dtype, by plain products or by cuBLAS: x [groups, rows, n], sum
// [groups, n, n]. What it leaves above is not meant.
void add_product(const at::Tensor& x, at::Tensor& sum) {
#if AMALGAM_HAS_CUDA
  if (x.is_cuda() && x.size(2) > kPlainColumns) {
    for (int64_t group = 0; group < x.size(0); ++group) {
      at::Tensor group_sum = sum.select(0, group);
      detail::add_lower_product_cuda(x.select(0, group).contiguous(), group_sum);
    }
    return;
  }
#endif
  sum.baddbmm_(x.mT(), x);
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

// By blocks, so that they stay in the cache.
void mirror_lower_triangle(at::Tensor sum) {
  const int64_t n = sum.size(-1), half = n / 2;
  if (n <= kPlainColumns) {
    sum.copy_(sum.tril().add_(sum.tril(-1).mT()));
    return;
  }
  const at::Tensor upper = sum.narrow(-2, 0, half), lower = sum.narrow(-2, half, n - half);
  mirror_lower_triangle(upper.narrow(-1, 0, half));
  mirror_lower_triangle(lower.narrow(-1, half, n - half));
  upper.narrow(-1, half, n - half).copy_(lower.narrow(-1, 0, half).mT());
}

void add_lower_product(const at::Tensor& x, at::Tensor& sum) {
  check(x, sum);
  const at::Tensor rows = x.dim() == 2 ? x.unsqueeze(0) : x;        // [groups, rows, n]
  at::Tensor group_sums = sum.dim() == 2 ? sum.unsqueeze(0) : sum;  // [groups, n, n]
  const bool same = x.scalar_type() == sum.scalar_type(), strips = x.is_cpu() && x.size(-1) > kPlainColumns;
  if (same && !strips) return add_product(rows, group_sums);
  const int64_t most = same ? std::max<int64_t>(1, rows.size(1)) : kChunkRows;
  at::Tensor product = strips ? at::Tensor() : at::empty(group_sums.sizes(), x.options());
  for (int64_t begin = 0; begin < rows.size(1); begin += most) {
    const at::Tensor chunk = rows.narrow(1, begin, std::min(most, rows.size(1) - begin));
    if (strips) {
      for (int64_t group = 0; group < rows.size(0); ++group) {
        at::Tensor group_sum = group_sums.select(0, group);
        add_strips_of_any_dtype(chunk.select(0, group), group_sum);
      }
    } else {
      add_product(chunk, product.zero_());
      group_sums.add_(product);
    }
  }
}

}  // namespace amalgam
