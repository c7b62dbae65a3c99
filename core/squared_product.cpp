// Compiled with OpenMP (LibTorch's own threads), -O3 and contraction to fused multiply-adds: CMakeLists.txt.
#include "core/squared_product.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>

namespace amalgam {
namespace {

// Note [Squared products]
// Both factors are packed into panels that are as wide as a tile, so that the inner loop reads straight on:
//   g  [out / kRows] panels of [N T, kRows],  a  [in / kColumns] panels of [N T, kColumns], padded by zeros.
// A tile of kRows × kColumns numbers is summed over t in registers, squared, and added to the tile's sum over n. The
// panel of a is meant to stay in the second cache while all panels of g pass by.

// So many rows (n, t) of a panel of a, 64 columns wide, take half a mebibyte.
constexpr int64_t kPanelRows = 2048;

struct Panels {
  const float *g, *a;
  int64_t examples, positions;
};

template <int kLanes>
struct VectorOf {
  typedef float type __attribute__((vector_size(kLanes * sizeof(float))));
};

// tile [kRows, kVectors · kLanes] = Σ_n (Σ_t g_nt a_ntᵀ)²
template <int kRows, int kVectors, int kLanes>
[[gnu::always_inline]] inline void sum_tile(const Panels& panels, float* tile) {
  using Vector = typename VectorOf<kLanes>::type;
  Vector squares[kRows][kVectors] = {};
  const float* g = panels.g;
  const float* a = panels.a;
  for (int64_t n = 0; n < panels.examples; ++n) {
    Vector sums[kRows][kVectors] = {};
    for (int64_t t = 0; t < panels.positions; ++t, g += kRows, a += kVectors * kLanes) {
      Vector columns[kVectors];
      std::memcpy(columns, a, sizeof columns);
#pragma GCC unroll 8
      for (int row = 0; row < kRows; ++row)
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) sums[row][v] += g[row] * columns[v];
    }
#pragma GCC unroll 8
    for (int row = 0; row < kRows; ++row)
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) squares[row][v] += sums[row][v] * sums[row][v];
  }
  std::memcpy(tile, squares, sizeof squares);
}

struct Kernel {
  int64_t rows, columns;
  void (*sum_tile)(const Panels&, float* tile);
};

constexpr int64_t kLargestTile = 6 * 64;

#if defined(__x86_64__)
[[gnu::target("avx512f")]] void sum_tile_avx512(const Panels& panels, float* tile) { sum_tile<6, 4, 16>(panels, tile); }
[[gnu::target("avx2,fma")]] void sum_tile_avx2(const Panels& panels, float* tile) { sum_tile<6, 2, 8>(panels, tile); }
#endif
void sum_tile_any(const Panels& panels, float* tile) { sum_tile<4, 2, 4>(panels, tile); }

// The quickest that this machine can run.
Kernel best_kernel() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return {6, 64, sum_tile_avx512};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return {6, 16, sum_tile_avx2};
#endif
  return {4, 8, sum_tile_any};
}

int64_t panels_of(int64_t columns, int64_t width) { return (columns + width - 1) / width; }

// [N, T, columns] -> [panels, N T, width]
at::Tensor pack(const at::Tensor& x, int64_t width) {
  const at::Tensor flat = x.contiguous();
  const int64_t rows = x.size(0) * x.size(1), columns = x.size(2), panels = panels_of(columns, width);
  at::Tensor packed = at::empty({panels, rows, width}, x.options());
  const float* in = flat.const_data_ptr<float>();
  float* out = packed.mutable_data_ptr<float>();
  at::parallel_for(0, panels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; ++panel) {
      const int64_t first = panel * width, count = std::min(width, columns - first);
      for (int64_t row = 0; row < rows; ++row) {
        float* to = out + (panel * rows + row) * width;
        std::copy_n(in + row * columns + first, count, to);
        std::fill(to + count, to + width, 0.0F);
      }
    }
  });
  return packed;
}

// squared += tile, as far as it reaches into `squared`
template <class Number>
void add_tile(const float* tile, const Kernel& kernel, int64_t row, int64_t column, at::Tensor& squared) {
  auto numbers = squared.accessor<Number, 2>();
  const int64_t rows = std::min(kernel.rows, squared.size(0) - row);
  const int64_t columns = std::min(kernel.columns, squared.size(1) - column);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j)
      numbers[row + i][column + j] += static_cast<Number>(tile[i * kernel.columns + j]);
}

// The same for at most kSquaredRun examples.
void add_run(const at::Tensor& g, const at::Tensor& a, at::Tensor& squared) {
  static const Kernel kernel = best_kernel();
  const at::Tensor g_panels = pack(g, kernel.rows), a_panels = pack(a, kernel.columns);
  const int64_t rows = g.size(0) * g.size(1), across = g_panels.size(0), down = a_panels.size(0);
  const float* g_data = g_panels.const_data_ptr<float>();
  const float* a_data = a_panels.const_data_ptr<float>();
  at::parallel_for(0, across * down, 1, [&](int64_t begin, int64_t end) {
    alignas(64) float tile[kLargestTile];
    for (int64_t i = begin; i < end; ++i) {
      const int64_t g_panel = i % across, a_panel = i / across;
      kernel.sum_tile({.g = g_data + g_panel * rows * kernel.rows,
                       .a = a_data + a_panel * rows * kernel.columns,
                       .examples = g.size(0),
                       .positions = g.size(1)},
                      tile);
      const int64_t row = g_panel * kernel.rows, column = a_panel * kernel.columns;
      if (squared.scalar_type() == at::kDouble)
        add_tile<double>(tile, kernel, row, column, squared);
      else
        add_tile<float>(tile, kernel, row, column, squared);
    }
  });
}

void check(const at::Tensor& g, const at::Tensor& a, const at::Tensor& squared) {
  TORCH_CHECK(g.dim() == 3 && a.dim() == 3 && g.size(0) == a.size(0) && g.size(1) == a.size(1),
              "g [N, T, out] and a [N, T, ", "in] must have the same N and T, but are ", g.sizes(), " and ", a.sizes());
  const std::vector<int64_t> expected = {g.size(2), a.size(2)};
  TORCH_CHECK(squared.sizes() == expected, "squared must be ", expected, ", but is ", squared.sizes());
  TORCH_CHECK(g.device() == a.device() && g.device() == squared.device(), "g is on ", g.device(), ", a on ", a.device(),
              " and squared on ", squared.device());
  TORCH_CHECK(g.scalar_type() == a.scalar_type(), "g is ", g.scalar_type(), " and a is ", a.scalar_type());
  for (const auto dtype : {g.scalar_type(), squared.scalar_type()})
    TORCH_CHECK(dtype == at::kFloat || dtype == at::kDouble, "numbers must be float32 or float64, but are ", dtype);
}

}  // namespace

bool has_fused_squared_product(const at::Tensor& g) { return g.is_cpu() && g.scalar_type() == at::kFloat; }

void add_squared_products(const at::Tensor& g, const at::Tensor& a, at::Tensor squared) {
  check(g, a, squared);
  if (g.numel() == 0 || a.numel() == 0) return;
  if (!has_fused_squared_product(g)) {
    squared.add_(at::bmm(g.mT(), a).square_().sum(0));
    return;
  }
  // Columns are the wider side of a tile, and a transposed view is added to along its memory.
  if (squared.stride(0) < squared.stride(1)) {
    add_squared_products(a, g, squared.t());
    return;
  }
  const int64_t run = std::clamp<int64_t>(kPanelRows / g.size(1), 1, kSquaredRun);
  for (int64_t begin = 0; begin < g.size(0); begin += run) {
    const int64_t count = std::min(run, g.size(0) - begin);
    add_run(g.narrow(0, begin, count), a.narrow(0, begin, count), squared);
  }
}

}  // namespace amalgam
