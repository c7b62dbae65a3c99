#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "core/random.h"
#include "solvers/linear/linear_operator.h"

namespace amalgam::test {

/// Seeded matrices in float64.
class RandomMatrices {
 public:
  explicit RandomMatrices(uint64_t seed) : generator_(RandomStream(seed, "solvers tests").generator()) {}

  at::Tensor normal(at::IntArrayRef sizes) { return at::randn(sizes, generator_, at::kDouble); }

  /// x xᵀ / rank + shift I: symmetric, positive semi-definite, of the given rank where shift is 0. [items, n, n]
  at::Tensor gram(int64_t items, int64_t n, int64_t rank, double shift = 0.0) {
    const at::Tensor x = normal({items, n, rank});
    return x.bmm(x.transpose(1, 2)) / rank + shift * at::eye(n, at::kDouble);
  }

  /// Terms whose sum is well conditioned.
  std::vector<KroneckerTerm> terms(size_t count, int64_t items, int64_t out, int64_t in) {
    std::vector<KroneckerTerm> terms;
    for (size_t m = 0; m < count; ++m)
      terms.push_back({0.5 + static_cast<double>(m), gram(items, out, out + 2, 0.1), gram(items, in, in + 2, 0.1)});
    return terms;
  }

 private:
  at::Generator generator_;
};

/// Σ α kron(B, A) of one item: [out*in, out*in].
inline at::Tensor dense(const std::vector<KroneckerTerm>& terms, int64_t item) {
  at::Tensor sum;
  for (const KroneckerTerm& term : terms) {
    const at::Tensor product = at::kron(term.output[item].contiguous(), term.input[item].contiguous()) * term.weight;
    sum = sum.defined() ? sum + product : product;
  }
  return sum;
}

/// Largest absolute difference.
inline double difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

inline constexpr double kEps32 = 1.1920929e-7, kEps64 = 2.220446e-16;

}  // namespace amalgam::test
