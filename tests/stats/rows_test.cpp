#include "stats/rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "stats/reference.h"

namespace amalgam {
namespace {

using namespace reference;

struct ConvolutionCase {
  int64_t out, channels, groups;
  Window window;
  std::vector<int64_t> spatial;
};

const std::vector<ConvolutionCase> kConvolutions = {
    {4, 3, 1, {{1, 1}, {1, 1}, {0, 0}, {1, 1}}, {4, 5}},
    {4, 3, 1, {{3, 3}, {1, 1}, {1, 1}, {1, 1}}, {4, 5}},
    {4, 6, 2, {{3, 2}, {2, 1}, {1, 0}, {1, 2}}, {7, 6}},
    {6, 6, 6, {{3, 3}, {2, 2}, {1, 1}, {1, 1}}, {6, 5}},
    {2, 4, 2, {{3}, {2}, {2}, {2}}, {9}},
    {3, 2, 1, {{2, 3, 2}, {1, 2, 1}, {0, 1, 1}, {2, 1, 1}}, {4, 5, 3}},
};

TEST(InputRows, OfAConvolutionAreItsPatchesElementByElement) {
  for (const auto& c : kConvolutions) {
    const Layer layer = convolution(c.out, c.channels, c.groups, c.window);
    std::vector<int64_t> shape = {2, c.channels};
    shape.insert(shape.end(), c.spatial.begin(), c.spatial.end());
    const at::Tensor input = random(shape, 1), rows = input_rows(layer, input);
    ASSERT_EQ(rows.size(2), positions_of(layer, use_of(input)));
    for (int64_t n = 0; n < 2; ++n) EXPECT_TRUE(rows.select(1, n).equal(naive_patches(layer, input[n])));
  }
}

TEST(InputRows, TimesTheWeightMatrixAreTheConvolution) {
  for (const auto& c : kConvolutions) {
    const Layer layer = convolution(c.out, c.channels, c.groups, c.window);
    std::vector<int64_t> shape = {2, c.channels}, weight_shape = {c.out, c.channels / c.groups};
    shape.insert(shape.end(), c.spatial.begin(), c.spatial.end());
    weight_shape.insert(weight_shape.end(), c.window.kernel.begin(), c.window.kernel.end());
    const at::Tensor input = random(shape, 2), weight = random(weight_shape, 3);
    const at::Tensor output = at::convolution(input, weight, {}, layer.stride, layer.padding, layer.dilation, false,
                                              std::vector<int64_t>(layer.kernel.size(), 0), c.groups);
    const at::Tensor matrices = weight.view({c.groups, 1, c.out / c.groups, layer.in});
    const at::Tensor product = at::matmul(input_rows(layer, input), matrices.mT());     // [groups, N, T, out/groups]
    const at::Tensor expected = output_rows(layer, output.flatten(2).transpose(1, 2));  // the same
    expect_close(product, expected, 8 * kFloat64Epsilon);
  }
}

TEST(InputRows, OfSeveralImagesAnExampleAreThoseOfItsImagesOneAfterAnother) {
  for (const auto& c : kConvolutions) {
    const Layer layer = convolution(c.out, c.channels, c.groups, c.window);
    std::vector<int64_t> shape = {2, 3, c.channels};
    shape.insert(shape.end(), c.spatial.begin(), c.spatial.end());
    const at::Tensor input = random(shape, 1), rows = input_rows(layer, input);
    ASSERT_EQ(rows.size(2), positions_of(layer, use_of(input)));
    for (int64_t n = 0; n < 2; ++n) {
      std::vector<at::Tensor> images;
      for (int64_t i = 0; i < 3; ++i) images.push_back(naive_patches(layer, input[n][i]));  // [groups, T, in]
      EXPECT_TRUE(rows.select(1, n).equal(at::cat(images, 1)));
    }
  }
}

TEST(InputRows, OfHalfPrecisionBecomeFloat32) {
  const Layer layer = linear(2, 3);
  const at::Tensor input = random({2, 1, 3}, 4);
  EXPECT_EQ(input_rows(layer, input.to(at::kBFloat16)).scalar_type(), at::kFloat);
  EXPECT_EQ(output_rows(linear(3, 2), input.to(at::kHalf)).scalar_type(), at::kFloat);
  EXPECT_EQ(input_rows(layer, input).scalar_type(), at::kDouble);
}

TEST(ZeroUnlessKept, RemovesMaskedRowsEvenIfTheyAreNotNumbers) {
  at::Tensor rows = at::ones({1, 2, 2, 3});
  rows[0][1][0].fill_(std::numeric_limits<float>::quiet_NaN());
  const at::Tensor mask = at::tensor({1, 1, 0, 1}).view({2, 2}).to(at::kBool);
  EXPECT_EQ(zero_unless_kept(rows, mask).sum().item<float>(), 9);
  EXPECT_TRUE(zero_unless_kept(rows, {}).is_same(rows));
}

TEST(ForEachChunk, CoversEveryExampleOnceWithinTheLimit) {
  for (const int64_t examples : {0, 1, 5, 6, 7}) {
    int64_t next = 0;
    for_each_chunk(examples, 10, 35, [&](int64_t begin, int64_t count) {
      EXPECT_EQ(begin, next);
      EXPECT_LE(count, 3);
      next += count;
    });
    EXPECT_EQ(next, examples);
  }
}

TEST(ForEachChunk, TakesASingleExampleThatIsTooLarge) {
  int64_t calls = 0;
  for_each_chunk(3, 100, 35, [&](int64_t, int64_t count) { calls += count == 1 ? 1 : 100; });
  EXPECT_EQ(calls, 3);
}

std::string refusal(const Layer& layer, const LayerUse& use) {
  try {
    check_use(layer, use);
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  }
  return {};
}

TEST(CheckUse, NamesTheLayerAndWhatDoesNotFit) {
  using testing::HasSubstr;
  const Layer fc = linear(2, 3), conv = convolution(2, 4, 2, {{3}, {1}, {0}, {1}});
  const at::Tensor input = at::zeros({5, 4, 3}), gradient = at::zeros({5, 4, 2});
  EXPECT_EQ(refusal(fc, use_of(input, gradient, at::ones({5, 4}, at::kBool))), "");
  EXPECT_THAT(refusal(fc, use_of(at::zeros({5, 4, 2}))), HasSubstr("layer 'fc': the input must be [N, T, 3]"));
  EXPECT_THAT(refusal(fc, use_of(input, at::zeros({4, 5, 2}))), HasSubstr("gradient by the output"));
  EXPECT_THAT(refusal(fc, use_of(input, {}, {}, at::zeros({5, 4, 3}))), HasSubstr("the output must be"));
  EXPECT_THAT(refusal(fc, use_of(input, {}, at::ones({5, 4}))), HasSubstr("the mask must be bool"));
  EXPECT_THAT(refusal(fc, {}), HasSubstr("there is no input"));
  EXPECT_THAT(refusal(conv, use_of(at::zeros({5, 3, 7}))), HasSubstr("layer 'conv': the input must be [N, 4]"));
  EXPECT_THAT(refusal(embedding(9, 2), use_of(at::zeros({5, 4}))), HasSubstr("must be int64"));
}

}  // namespace
}  // namespace amalgam
