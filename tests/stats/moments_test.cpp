#include "stats/moments.h"

#include <gtest/gtest.h>

#include "stats/reference.h"

namespace amalgam {
namespace {

using namespace reference;

TEST(Moments, AreSumsOfOutputsAndTheirSquaresOverKeptRows) {
  const Layer layer = linear(5, 2);
  const at::Tensor output = random({3, 4, 5}, 1);
  const at::Tensor mask = at::tensor({1, 1, 0, 0, 1, 0, 1, 1, 1, 0, 0, 0}).view({3, 4}).to(at::kBool);
  for (const at::Tensor& kept : {at::Tensor(), mask})
    for (const int64_t limit : {1, 1 << 30}) {
      at::Tensor sum = at::zeros({5}, at::kDouble), square_sum = at::zeros({5}, at::kDouble);
      add_moments(layer, use_of(at::zeros({3, 4, 2}), {}, kept, output), sum, square_sum, limit);
      expect_close(sum, naive_sum(output, kept), 12 * kFloat64Epsilon);
      expect_close(square_sum, naive_sum(output * output, kept), 12 * kFloat64Epsilon);
    }
}

TEST(Moments, OfFloat32OutputsKeepAVarianceBesideALargeMean) {
  // Outputs 1000 ± 1/64: mean square less squared mean is 1/4096, which float32 squares (near 10⁶) cannot hold.
  at::Tensor output = at::full({4, 2, 1}, 1000, at::kFloat);
  output.select(1, 0).add_(1.0 / 64);
  output.select(1, 1).sub_(1.0 / 64);
  at::Tensor sum = at::zeros({1}, at::kDouble), square_sum = at::zeros({1}, at::kDouble);
  add_moments(linear(1, 2), use_of(at::zeros({4, 2, 2}), {}, {}, output), sum, square_sum, 1 << 20);
  const double mean = sum.item<double>() / 8;
  EXPECT_NEAR(square_sum.item<double>() / 8 - mean * mean, 1.0 / 4096, 1e6 * 8 * kFloat64Epsilon);
}

}  // namespace
}  // namespace amalgam
