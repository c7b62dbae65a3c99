#include "stats/gram.h"

#include <gtest/gtest.h>

#include "core/symmetric_product.h"
#include "stats/reference.h"

namespace amalgam {
namespace {

using namespace reference;

constexpr int64_t kUnlimited = int64_t{1} << 30;

const Layer kConvolution = convolution(4, 6, 2, {{3, 2}, {2, 1}, {1, 0}, {1, 2}});  // input [N, 6, 7, 6]: T = 4 * 4

// Gram matrix [in, in] and sum [in] of the kept rows of a linear layer.
std::pair<at::Tensor, at::Tensor> gram_of(const Layer& layer, const LayerUse& use, at::ScalarType dtype = at::kDouble,
                                          int64_t limit = kUnlimited) {
  std::vector<int64_t> shape = {layer.in, layer.in};
  if (layer.groups > 1) shape.insert(shape.begin(), layer.groups);
  at::Tensor gram = at::zeros(shape, dtype);
  shape.pop_back();
  at::Tensor sum = at::zeros(shape, dtype);
  add_input_gram(layer, use, gram, sum, limit);
  mirror_lower_triangle(gram);
  return {gram, sum};
}

at::Tensor some_mask() { return at::tensor({1, 1, 0, 0, 1, 0, 1, 1, 1, 0, 0, 0}).view({3, 4}).to(at::kBool); }

TEST(InputGram, OfOneRowAnExampleIsTheSumOfOuterProducts) {
  const at::Tensor input = random({5, 1, 3}, 1);
  const auto [gram, sum] = gram_of(linear(2, 3), use_of(input));
  expect_close(gram, naive_gram(input, {}), 5 * kFloat64Epsilon);
  expect_close(sum, naive_sum(input, {}), 5 * kFloat64Epsilon);
}

TEST(InputGram, CountsOnlyTheRowsThatTheMaskKeeps) {
  const at::Tensor input = random({3, 4, 5}, 2), mask = some_mask();
  const auto [gram, sum] = gram_of(linear(2, 5), use_of(input, {}, mask));
  expect_close(gram, naive_gram(input, mask), 8 * kFloat64Epsilon);
  expect_close(sum, naive_sum(input, mask), 8 * kFloat64Epsilon);
}

TEST(InputGram, OfAGroupedConvolutionHasOneMatrixAGroup) {
  const at::Tensor input = random({3, 6, 7, 6}, 3);
  const auto [gram, sum] = gram_of(kConvolution, use_of(input));
  for (int64_t group = 0; group < 2; ++group) {
    std::vector<at::Tensor> rows;
    for (int64_t n = 0; n < 3; ++n) rows.push_back(naive_patches(kConvolution, input[n])[group]);
    expect_close(gram[group], naive_gram(at::stack(rows), {}), 16 * kFloat64Epsilon);
    expect_close(sum[group], naive_sum(at::stack(rows), {}), 16 * kFloat64Epsilon);
  }
}

TEST(InputGram, IsTheSameInChunksOfOneExample) {
  const at::Tensor input = random({5, 6, 7, 6}, 4);
  const auto [whole, whole_sum] = gram_of(kConvolution, use_of(input));
  const auto [pieces, pieces_sum] = gram_of(kConvolution, use_of(input), at::kDouble, 1);
  expect_close(pieces, whole, 32 * kFloat64Epsilon);
  expect_close(pieces_sum, whole_sum, 32 * kFloat64Epsilon);
}

TEST(InputGram, OfFloat32RowsInFloat64SumsIsOffByAFewUnitsOfFloat32) {
  const at::Tensor input = random({3, 4, 5}, 5).to(at::kFloat);
  const LayerUse use = use_of(input);
  expect_close(gram_of(linear(2, 5), use).first, naive_gram(input.to(at::kDouble), {}), 4 * kFloat32Epsilon);
}

TEST(InputGram, TakesFloat64RowsIntoFloat32Sums) {
  const at::Tensor input = random({3, 4, 5}, 6);
  const auto [gram, sum] = gram_of(linear(2, 5), use_of(input), at::kFloat);
  expect_close(gram, naive_gram(input, {}), 8 * kFloat32Epsilon);
  expect_close(sum, naive_sum(input, {}), 8 * kFloat32Epsilon);
}

TEST(OutputGram, CountsOnlyTheRowsThatTheMaskKeeps) {
  const at::Tensor gradient = random({3, 4, 5}, 7), mask = some_mask();
  at::Tensor gram = at::zeros({5, 5}, at::kDouble);
  const LayerUse use = use_of(at::zeros({3, 4, 2}), gradient, mask);
  add_output_gram(linear(5, 2), use, gram, kUnlimited);
  mirror_lower_triangle(gram);
  expect_close(gram, naive_gram(gradient, mask), 8 * kFloat64Epsilon);
}

TEST(OutputGram, OfAGroupedConvolutionHasOneMatrixAGroup) {
  const at::Tensor gradient = random({3, 16, 4}, 8);
  const LayerUse use = use_of(random({3, 6, 7, 6}, 9), gradient);
  for (const int64_t limit : {int64_t{1}, kUnlimited}) {
    at::Tensor gram = at::zeros({2, 2, 2}, at::kDouble);
    add_output_gram(kConvolution, use, gram, limit);
    mirror_lower_triangle(gram);
    for (int64_t group = 0; group < 2; ++group)
      expect_close(gram[group], naive_gram(gradient.narrow(2, 2 * group, 2), {}), 16 * kFloat64Epsilon);
  }
}

TEST(RowCount, IsOfPositionsThatTheMaskKeeps) {
  at::Tensor rows = at::zeros({}, at::kLong);
  add_row_count(linear(2, 5), use_of(at::zeros({3, 4, 5}), {}, some_mask()), rows);
  EXPECT_EQ(rows.item<int64_t>(), 6);
  add_row_count(linear(2, 5), use_of(at::zeros({3, 4, 5})), rows);
  EXPECT_EQ(rows.item<int64_t>(), 6 + 12);
  add_row_count(kConvolution, use_of(at::zeros({3, 6, 7, 6})), rows);
  EXPECT_EQ(rows.item<int64_t>(), 6 + 12 + 3 * 16);
}

}  // namespace
}  // namespace amalgam
