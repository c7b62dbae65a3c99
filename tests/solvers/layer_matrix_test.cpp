#include "solvers/layer_matrix.h"

#include <gtest/gtest.h>

#include "solvers/merge_case.h"

namespace amalgam {
namespace {

const at::TensorOptions kDoubles = at::TensorOptions().dtype(at::kDouble);

at::Tensor counting(at::IntArrayRef sizes) {
  return at::arange(c10::multiply_integers(sizes), at::kDouble).view(sizes);
}

/// What scatter writes into tensors of the source's shapes.
NamedTensors scattered(const LayerMatrix& layer, const NamedTensors& like) {
  NamedTensors result;
  for (const auto& [name, tensor] : like) result[name] = at::full_like(tensor, -1.0);
  layer.scatter(layer.gather(MemoryTensors(like), kDoubles), result);
  return result;
}

TEST(LayerMatrix, PutsTheBiasLast) {
  const Layer layer = test::linear("fc", 2, 3, true);
  const NamedTensors tensors{{"fc.weight", counting({2, 3})}, {"fc.bias", at::tensor({7.0, 8.0}, at::kDouble)}};
  const LayerMatrix matrix(layer, true);
  EXPECT_EQ(matrix.columns(), 4);
  const at::Tensor expected = at::tensor({0.0, 1.0, 2.0, 7.0, 3.0, 4.0, 5.0, 8.0}, at::kDouble).view({1, 2, 4});
  EXPECT_TRUE(at::equal(matrix.gather(MemoryTensors(tensors), kDoubles), expected));
  const NamedTensors back = scattered(matrix, tensors);
  EXPECT_TRUE(at::equal(back.at("fc.weight"), tensors.at("fc.weight")));
  EXPECT_TRUE(at::equal(back.at("fc.bias"), tensors.at("fc.bias")));
}

TEST(LayerMatrix, LeavesTheBiasAloneWhereItIsLeftOut) {
  const Layer layer = test::linear("fc", 2, 3, true);
  const NamedTensors tensors{{"fc.weight", counting({2, 3})}, {"fc.bias", at::tensor({7.0, 8.0}, at::kDouble)}};
  const LayerMatrix matrix(layer, false);
  EXPECT_EQ(matrix.columns(), 3);
  EXPECT_TRUE(at::equal(scattered(matrix, tensors).at("fc.bias"), at::full({2}, -1.0, at::kDouble)));
}

TEST(LayerMatrix, TransposesAWeightStoredInByOut) {
  Layer layer = test::linear("fc", 2, 3, true);
  layer.transposed = true;
  const NamedTensors tensors{{"fc.weight", counting({3, 2})}, {"fc.bias", at::tensor({7.0, 8.0}, at::kDouble)}};
  const LayerMatrix matrix(layer, true);
  const at::Tensor expected = at::tensor({0.0, 2.0, 4.0, 7.0, 1.0, 3.0, 5.0, 8.0}, at::kDouble).view({1, 2, 4});
  EXPECT_TRUE(at::equal(matrix.gather(MemoryTensors(tensors), kDoubles), expected));
  EXPECT_TRUE(at::equal(scattered(matrix, tensors).at("fc.weight"), tensors.at("fc.weight")));
}

TEST(LayerMatrix, ReadsAndWritesItsRowsOnly) {
  for (const bool transposed : {false, true}) {
    Layer layer = test::linear("qkv", 2, 3, true);
    layer.row_begin = 2;
    layer.row_end = 4;
    layer.transposed = transposed;
    const at::Tensor packed = counting({6, 3});
    const NamedTensors tensors{{"qkv.weight", transposed ? packed.t().contiguous() : packed},
                               {"qkv.bias", counting({6})}};
    const LayerMatrix matrix(layer, true);
    const at::Tensor expected = at::tensor({6.0, 7.0, 8.0, 2.0, 9.0, 10.0, 11.0, 3.0}, at::kDouble).view({1, 2, 4});
    EXPECT_TRUE(at::equal(matrix.gather(MemoryTensors(tensors), kDoubles), expected));
    const NamedTensors back = scattered(matrix, tensors);
    const at::Tensor weight = transposed ? back.at("qkv.weight").t() : back.at("qkv.weight");
    EXPECT_TRUE(at::equal(weight.slice(0, 2, 4), packed.slice(0, 2, 4)));
    EXPECT_TRUE(weight.slice(0, 0, 2).eq(-1.0).all().item<bool>() && weight.slice(0, 4, 6).eq(-1.0).all().item<bool>());
    EXPECT_TRUE(at::equal(back.at("qkv.bias"), at::tensor({-1.0, -1.0, 2.0, 3.0, -1.0, -1.0}, at::kDouble)));
  }
}

TEST(LayerMatrix, GivesOneMatrixAGroupOfAConvolution) {
  const Layer layer = test::convolution("conv", 6, 2, 2, 2, true);  // 6 output units in 2 groups, 2 channels of 2x2
  const NamedTensors tensors{{"conv.weight", counting({6, 2, 2, 2})}, {"conv.bias", counting({6})}};
  const LayerMatrix matrix(layer, true);
  const at::Tensor gathered = matrix.gather(MemoryTensors(tensors), kDoubles);
  ASSERT_EQ(gathered.sizes(), (std::vector<int64_t>{2, 3, 9}));
  const at::Tensor expected = at::tensor({24.0, 25.0, 26.0, 27.0, 28.0, 29.0, 30.0, 31.0, 3.0}, at::kDouble);
  EXPECT_TRUE(at::equal(gathered[1][0], expected));
  const NamedTensors back = scattered(matrix, tensors);
  EXPECT_TRUE(at::equal(back.at("conv.weight"), tensors.at("conv.weight")));
  EXPECT_TRUE(at::equal(back.at("conv.bias"), tensors.at("conv.bias")));
}

TEST(LayerMatrix, RefusesAWeightOfAnotherSize) {
  const Layer layer = test::linear("fc", 2, 3, false);
  EXPECT_THROW(LayerMatrix(layer, false).gather(MemoryTensors({{"fc.weight", counting({2, 4})}}), kDoubles),
               c10::Error);
  EXPECT_THROW(LayerMatrix(layer, true), c10::Error);
}

}  // namespace
}  // namespace amalgam
