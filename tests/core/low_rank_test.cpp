#include "core/low_rank.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/random.h"

namespace amalgam {
namespace {

constexpr double kEpsilon = 2.3e-16;

at::Tensor random_matrix(int64_t rows, int64_t columns, uint64_t seed) {
  return at::randn({rows, columns}, RandomStream(seed, "matrix").generator(), at::kDouble);
}

TEST(LowRank, NamesFactorsAfterTheirWeight) {
  const MemoryTensors source({{"b.weight.lora_A", at::ones({2, 3})},
                              {"b.weight.lora_B", at::ones({4, 2})},
                              {"a.weight.lora_A", at::ones({1, 3})},
                              {"a.weight.lora_B", at::full({4, 1}, 2.0)}});
  EXPECT_EQ(adapted_weights(source), (std::vector<std::string>{"a.weight", "b.weight"}));
  const LowRank read = read_low_rank(source, "a.weight", at::kDouble);
  EXPECT_EQ(read.rank(), 1);
  EXPECT_TRUE(at::equal(read.product(), at::full({4, 3}, 2.0, at::kDouble)));
  EXPECT_THROW(read_low_rank(source, "c.weight", at::kDouble), InputError);
}

TEST(LowRank, OfAMatrixOfItsRankIsTheMatrix) {
  const at::Tensor matrix = random_matrix(5, 2, 1).mm(random_matrix(2, 7, 2));
  const Truncation truncation = truncate(matrix, 2);
  EXPECT_EQ(truncation.factors.down.sizes(), (std::vector<int64_t>{2, 7}));
  EXPECT_EQ(truncation.factors.up.sizes(), (std::vector<int64_t>{5, 2}));
  const double size = matrix.norm().item<double>();
  EXPECT_LT((truncation.factors.product() - matrix).norm().item<double>(), 50 * kEpsilon * size);
  EXPECT_LT(truncation.squared_error, 50 * kEpsilon * size * size);
}

TEST(LowRank, LeavesOutTheSmallestDirections) {
  // diag(3, 2, 1) turned on both sides: rank 2 loses 1² of 14.
  const auto turn = [](uint64_t seed) { return std::get<0>(at::linalg_qr(random_matrix(3, 3, seed))); };
  const at::Tensor matrix = turn(3).mm(at::diag(at::tensor({3.0, 2.0, 1.0}, at::kDouble))).mm(turn(4));
  const Truncation truncation = truncate(matrix, 2);
  EXPECT_NEAR(truncation.squared_error, 1.0, 50 * kEpsilon);
  EXPECT_NEAR(truncation.squared_norm, 14.0, 500 * kEpsilon);
  EXPECT_NEAR((truncation.factors.product() - matrix).norm().item<double>(), 1.0, 50 * kEpsilon);
}

TEST(LowRank, FillsUpARankThatTheMatrixCannotHave) {
  const at::Tensor matrix = random_matrix(2, 6, 5).to(at::kFloat);
  const Truncation truncation = truncate(matrix, 4);
  EXPECT_EQ(truncation.factors.rank(), 4);
  EXPECT_EQ(truncation.factors.up.scalar_type(), at::kFloat);
  EXPECT_LT((truncation.factors.product() - matrix).norm().item<double>(), 1e-6 * matrix.norm().item<double>());
  EXPECT_EQ(truncation.squared_error, 0.0);
}

TEST(LowRank, OfNoChangeIsZero) {
  const Truncation truncation = truncate(at::zeros({3, 4}), 2);
  EXPECT_TRUE(at::equal(truncation.factors.product(), at::zeros({3, 4})));
  EXPECT_EQ(truncation.squared_norm, 0.0);
}

}  // namespace
}  // namespace amalgam
