#include "solvers/linear/cg_kernels.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

namespace amalgam {
namespace {

constexpr int64_t kBlock = 8192;  // elements summed together

at::Tensor per_item(const at::Tensor& scalars, const at::Tensor& like) {  // [L] -> [L, 1, 1]
  return scalars.to(like.scalar_type()).view({-1, 1, 1});
}

/// Calls `of_block(item, begin, end)` for every block of every item that moves, in parallel, and adds up what it
/// returns by item in the order of the blocks.
template <class OfBlock>
at::Tensor sum_blocks(int64_t items, int64_t elements, const at::Tensor& moves, const OfBlock& of_block) {
  const bool* moving = moves.const_data_ptr<bool>();
  const int64_t blocks = (elements + kBlock - 1) / kBlock;
  std::vector<double> partial(static_cast<size_t>(items * blocks));
  at::parallel_for(0, items * blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t item = i / blocks, from = (i % blocks) * kBlock;
      if (moving[item]) partial[static_cast<size_t>(i)] = of_block(item, from, std::min(from + kBlock, elements));
    }
  });
  at::Tensor sums = at::zeros({items}, at::kDouble);
  for (int64_t i = 0; i < items * blocks; ++i) sums.data_ptr<double>()[i / blocks] += partial[static_cast<size_t>(i)];
  return sums;
}

bool fused(const at::Tensor& tensor) { return tensor.device().is_cpu() && tensor.is_contiguous(); }

/// Four sums side by side, so that additions need not wait for one another.
template <class Scalar>
double dot_of_block(const Scalar* a, const Scalar* b, int64_t count) {
  double sums[4] = {0, 0, 0, 0};
  int64_t i = 0;
  for (; i + 4 <= count; i += 4)
    for (int64_t k = 0; k < 4; ++k) sums[k] += static_cast<double>(a[i + k]) * static_cast<double>(b[i + k]);
  for (; i < count; ++i) sums[0] += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

template <class Scalar>
at::Tensor dot_cpu(const at::Tensor& a, const at::Tensor& b, const at::Tensor& moves) {
  const int64_t items = a.size(0), elements = a.numel() / std::max<int64_t>(items, 1);
  const Scalar *a_data = a.const_data_ptr<Scalar>(), *b_data = b.const_data_ptr<Scalar>();
  return sum_blocks(items, elements, moves, [&](int64_t item, int64_t begin, int64_t end) {
    const int64_t offset = item * elements + begin;
    return dot_of_block(a_data + offset, b_data + offset, end - begin);
  });
}

template <class Scalar>
at::Tensor advance_cpu(at::Tensor& x, at::Tensor& r, const at::Tensor& p, const at::Tensor& k_p,
                       const at::Tensor& alpha, const at::Tensor& moves) {
  const int64_t items = x.size(0), elements = x.numel() / std::max<int64_t>(items, 1);
  Scalar *x_data = x.data_ptr<Scalar>(), *r_data = r.data_ptr<Scalar>();
  const Scalar *p_data = p.const_data_ptr<Scalar>(), *k_data = k_p.const_data_ptr<Scalar>();
  const double* alphas = alpha.const_data_ptr<double>();
  return sum_blocks(items, elements, moves, [&](int64_t item, int64_t begin, int64_t end) {
    const auto step = static_cast<Scalar>(alphas[item]);
    const int64_t offset = item * elements + begin, count = end - begin;
    Scalar *xs = x_data + offset, *rs = r_data + offset;
    const Scalar *ps = p_data + offset, *ks = k_data + offset;
    for (int64_t i = 0; i < count; ++i) {
      xs[i] += step * ps[i];
      rs[i] -= step * ks[i];
    }
    return dot_of_block(rs, rs, count);
  });
}

template <class Scalar>
void turn_cpu(at::Tensor& p, const at::Tensor& z, const at::Tensor& beta, const at::Tensor& moves) {
  const int64_t items = p.size(0), elements = p.numel() / std::max<int64_t>(items, 1);
  Scalar* p_data = p.data_ptr<Scalar>();
  const Scalar* z_data = z.const_data_ptr<Scalar>();
  const double* betas = beta.const_data_ptr<double>();
  sum_blocks(items, elements, moves, [&](int64_t item, int64_t begin, int64_t end) {
    const auto factor = static_cast<Scalar>(betas[item]);
    const int64_t offset = item * elements;
    for (int64_t i = offset + begin; i < offset + end; ++i) p_data[i] = z_data[i] + factor * p_data[i];
    return 0.0;
  });
}

}  // namespace

at::Tensor dot(const at::Tensor& a, const at::Tensor& b, const at::Tensor& moves) {
  if (!fused(a) || !fused(b)) return (a * b).sum({1, 2}, false, at::kDouble);
  return a.scalar_type() == at::kDouble ? dot_cpu<double>(a, b, moves) : dot_cpu<float>(a, b, moves);
}

at::Tensor advance(at::Tensor& x, at::Tensor& r, const at::Tensor& p, const at::Tensor& k_p, const at::Tensor& alpha,
                   const at::Tensor& moves) {
  if (fused(x))
    return x.scalar_type() == at::kDouble ? advance_cpu<double>(x, r, p, k_p, alpha, moves)
                                          : advance_cpu<float>(x, r, p, k_p, alpha, moves);
  const at::Tensor moving = moves.view({-1, 1, 1}), step = per_item(alpha, x);
  at::where_out(x, moving, at::addcmul(x, step, p), x);
  at::where_out(r, moving, at::addcmul(r, step, k_p, -1.0), r);
  return (r * r).sum({1, 2}, false, at::kDouble);
}

void turn(at::Tensor& p, const at::Tensor& z, const at::Tensor& beta, const at::Tensor& moves) {
  if (fused(p) && fused(z)) {
    if (p.scalar_type() == at::kDouble) return turn_cpu<double>(p, z, beta, moves);
    return turn_cpu<float>(p, z, beta, moves);
  }
  at::where_out(p, moves.view({-1, 1, 1}), at::addcmul(z, per_item(beta, p), p), p);
}

}  // namespace amalgam
