#include "datasets/image_transforms.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace amalgam {
namespace {

/// The pixel at column x, row y of one channel [H, W]; 0 outside.
double pixel(const at::Tensor& image, int64_t y, int64_t x) {
  const bool inside = y >= 0 && y < image.size(0) && x >= 0 && x < image.size(1);
  return inside ? image[y][x].item<double>() : 0.0;
}

/// One channel [H, W] turned counter-clockwise: in coordinates with y upwards from the centre, the value at p comes
/// from p turned back.
at::Tensor turned(const at::Tensor& image, double degrees) {
  const double angle = -degrees * std::numbers::pi / 180;
  const double middle_x = double(image.size(1) - 1) / 2, middle_y = double(image.size(0) - 1) / 2;
  at::Tensor out = at::zeros_like(image, at::kDouble);
  for (int64_t row = 0; row < image.size(0); ++row)
    for (int64_t column = 0; column < image.size(1); ++column) {
      const double x = double(column) - middle_x, y = middle_y - double(row);
      const double from_x = std::cos(angle) * x - std::sin(angle) * y + middle_x;
      const double from_y = middle_y - (std::sin(angle) * x + std::cos(angle) * y);
      const double left = std::floor(from_x), top = std::floor(from_y);
      double value = 0;
      for (const int dy : {0, 1})
        for (const int dx : {0, 1})
          value += (1 - std::abs(from_x - left - dx)) * (1 - std::abs(from_y - top - dy)) *
                   pixel(image, int64_t(top) + dy, int64_t(left) + dx);
      out[row][column] = value;
    }
  return out;
}

at::Tensor blurred(const at::Tensor& image, int64_t size) {
  at::Tensor out = at::zeros_like(image, at::kDouble);
  for (int64_t row = 0; row < image.size(0); ++row)
    for (int64_t column = 0; column < image.size(1); ++column) {
      double sum = 0;
      for (int64_t dy = -(size / 2); dy <= size / 2; ++dy)
        for (int64_t dx = -(size / 2); dx <= size / 2; ++dx) sum += pixel(image, row + dy, column + dx);
      out[row][column] = sum / double(size * size);
    }
  return out;
}

/// One channel [H, W] in side x side pixels: the value at the place of each pixel's centre, of the four centres around
/// it; beyond the outermost centres, theirs.
at::Tensor resized(const at::Tensor& image, int64_t side) {
  at::Tensor out = at::zeros({side, side}, at::kDouble);
  const auto place = [side](int64_t to, int64_t length) {
    const double from = (double(to) + 0.5) * double(length) / double(side) - 0.5;
    return std::clamp(from, 0.0, double(length - 1));
  };
  for (int64_t row = 0; row < side; ++row)
    for (int64_t column = 0; column < side; ++column) {
      const double y = place(row, image.size(0)), x = place(column, image.size(1));
      double value = 0;
      for (const double top : {std::floor(y), std::floor(y) + 1})
        for (const double left : {std::floor(x), std::floor(x) + 1})
          value += (1 - std::abs(y - top)) * (1 - std::abs(x - left)) * pixel(image, int64_t(top), int64_t(left));
      out[row][column] = value;
    }
  return out;
}

double distance(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

std::vector<int64_t> numbers(int64_t count) {
  std::vector<int64_t> ids;
  for (int64_t n = 0; n < count; ++n) ids.push_back(n);
  return ids;
}

/// Images after one transform, given as YAML.
at::Tensor transformed(const std::string& map, const at::Tensor& images, int64_t epoch = 0) {
  const YAML::Node node = YAML::Load(map);
  const auto transform = image_transforms().at(node.begin()->first.Scalar())();
  OptionSet set;
  transform->declare(set);
  set.read(node, "");
  const RandomStream stream(1, "test");
  const std::vector<int64_t> ids = numbers(images.size(0));
  return transform->apply(images, {stream, ids, epoch});
}

constexpr double kEpsilon = std::numeric_limits<float>::epsilon();

TEST(Rotate, TurnsCounterClockwise) {
  const at::Tensor image = at::arange(1, 10, at::kFloat).view({1, 1, 3, 3});
  const at::Tensor expected = at::tensor({3, 6, 9, 2, 5, 8, 1, 4, 7}, at::kFloat).view({1, 1, 3, 3});
  EXPECT_LE(distance(rotate(image, {90}), expected), 16 * kEpsilon * 9);
}

TEST(Rotate, AgreesWithOnePixelAtATimeOnAnySize) {
  at::manual_seed(0);
  for (const auto& [height, width] : {std::pair{1, 1}, {2, 2}, {3, 5}, {8, 7}, {28, 28}}) {
    const std::vector<double> degrees = {34, -34, 5.5, 180, -271};
    const at::Tensor images = at::rand({5, 2, height, width});
    const at::Tensor each = rotate(images, degrees), first = rotate(images, {degrees[0]});
    // Places are off by some epsilon of the size, and values change by at most 2 from pixel to pixel.
    const double tolerance = 16 * kEpsilon * std::max(height, width);
    for (int64_t n = 0; n < 5; ++n)
      for (int64_t c = 0; c < 2; ++c) {
        EXPECT_LE(distance(each[n][c], turned(images[n][c], degrees[static_cast<size_t>(n)])), tolerance) << height;
        EXPECT_LE(distance(first[n][c], turned(images[n][c], degrees[0])), tolerance) << height;
      }
  }
}

TEST(Resize, AgreesWithOnePixelAtATimeOnAnySize) {
  at::manual_seed(0);
  for (const int64_t side : {1, 4, 7, 28})
    for (const auto& [height, width] : {std::pair{1, 1}, {5, 4}, {28, 32}}) {
      const at::Tensor images = at::rand({2, 3, height, width});
      const at::Tensor result = transformed(fmt::format("{{resize: {}}}", side), images);
      ASSERT_EQ(result.sizes(), (std::vector<int64_t>{2, 3, side, side}));
      // Places are off by some epsilon of the size, and values change by at most 1 from pixel to pixel.
      const double tolerance = 8 * kEpsilon * 32;
      for (int64_t n = 0; n < 2; ++n)
        for (int64_t c = 0; c < 3; ++c)
          EXPECT_LE(distance(result[n][c], resized(images[n][c], side)), tolerance) << side;
    }
}

TEST(Resize, LeavesImagesOfItsSizeAsTheyAre) {
  const at::Tensor images = at::rand({2, 1, 9, 9});
  EXPECT_TRUE(at::equal(transformed("{resize: 9}", images), images));
}

TEST(Blur, AgreesWithOnePixelAtATimeOnAnySize) {
  at::manual_seed(0);
  for (const int64_t size : {1, 3, 5, 9})
    for (const auto& [height, width] : {std::pair{1, 1}, {3, 4}, {9, 8}}) {
      const at::Tensor images = at::rand({2, 3, height, width});
      const at::Tensor result = transformed(fmt::format("{{blur: {}}}", size), images);
      for (int64_t n = 0; n < 2; ++n)
        for (int64_t c = 0; c < 3; ++c)
          EXPECT_LE(distance(result[n][c], blurred(images[n][c], size)), 4 * kEpsilon * double(size)) << size;
    }
}

TEST(Noise, IsNormalWithTheDeviationAskedFor) {
  const at::Tensor images = at::full({100, 1, 28, 28}, 0.25);
  const at::Tensor z = (transformed("{noise: 0.5}", images) - images).to(at::kDouble) / 0.5;
  const double sigmas = 5 / std::sqrt(double(z.numel()));  // of a mean of so many
  EXPECT_NEAR(z.mean().item<double>(), 0, sigmas);
  EXPECT_NEAR(z.pow(2).mean().item<double>(), 1, std::sqrt(2.0) * sigmas);
  EXPECT_NEAR(z.pow(3).mean().item<double>(), 0, std::sqrt(15.0) * sigmas);
  EXPECT_NEAR(z.pow(4).mean().item<double>(), 3, std::sqrt(96.0) * sigmas);
}

TEST(Noise, OfTwoExamplesIsUncorrelated) {
  const at::Tensor z = transformed("{noise: 1}", at::zeros({50, 784, 1, 1})).view({50, 784}).to(at::kDouble);
  const at::Tensor products = at::mm(z, z.t()).div_(784).fill_diagonal_(0);
  EXPECT_LE(products.abs().max().item<double>(), 6 / std::sqrt(784.0));
}

TEST(Contrast, IsAStraightLine) {
  const at::Tensor images = at::tensor({0.0, 0.5, 1.0}, at::kDouble).view({1, 1, 1, 3});
  const at::Tensor expected = at::tensor({0.5, 0.625, 0.75}, at::kDouble).view({1, 1, 1, 3});
  EXPECT_TRUE(at::equal(transformed("{contrast: {scale: 0.25, offset: 0.5}}", images), expected));
}

TEST(RandomRotate, TurnsABrightSpotWithinTheRange) {
  at::Tensor images = at::zeros({200, 1, 41, 41}, at::kDouble);
  images.select(2, 20).select(2, 38).fill_(1);  // to the right of the centre
  const at::Tensor turned_images = transformed("{random_rotate: 30}", images);
  const at::Tensor place = at::arange(-20, 21, at::kDouble);
  const at::Tensor x = (turned_images * place).sum({1, 2, 3}),
                   y = -(turned_images * place.view({41, 1})).sum({1, 2, 3});
  const at::Tensor degrees = at::atan2(y, x) * (180 / std::numbers::pi);
  EXPECT_LE(degrees.abs().max().item<double>(), 30.5);
  EXPECT_GE(degrees.max().item<double>(), 25);
  EXPECT_LE(degrees.min().item<double>(), -25);
  EXPECT_NEAR(degrees.mean().item<double>(), 0, 5 * 60 / std::sqrt(12.0 * 200));
}

/// That values, one an image, lie in [low, high], fill it, and change with the epoch.
void expect_uniform(const std::string& map, double value, double low, double high) {
  const at::Tensor images = at::full({200, 1, 2, 2}, value, at::kDouble);
  const at::Tensor result = transformed(map, images).view({200, 4});
  const at::Tensor drawn = result.select(1, 0);
  EXPECT_TRUE(at::equal(result, drawn.unsqueeze(1).expand({200, 4})));
  const double width = high - low;
  EXPECT_GE(drawn.min().item<double>(), low - 1e-12);
  EXPECT_LE(drawn.max().item<double>(), high + 1e-12);
  EXPECT_LE(drawn.min().item<double>(), low + 0.05 * width);
  EXPECT_GE(drawn.max().item<double>(), high - 0.05 * width);
  EXPECT_NEAR(drawn.mean().item<double>(), (low + high) / 2, 5 * width / std::sqrt(12.0 * 200));
  EXPECT_TRUE((transformed(map, images, 1).view({200, 4}).select(1, 0) != drawn).all().item<bool>());
}

TEST(RandomBrightness, AddsOneNumberToEachImage) { expect_uniform("{random_brightness: 0.25}", 0.5, 0.25, 0.75); }

TEST(RandomContrast, ScalesEachImageAboutTheMiddle) {
  expect_uniform("{random_contrast: [0.5, 1.5]}", 1.0, 0.75, 1.25);
  expect_uniform("{random_contrast: [0.5, 1.5]}", 0.0, -0.25, 0.25);
}

TEST(RandomNoise, HasADeviationOfItsOwnInEachImage) {
  const at::Tensor z = transformed("{random_noise: 0.4}", at::zeros({200, 1, 50, 50})).view({200, -1}).to(at::kDouble);
  const at::Tensor sigma = z.pow(2).mean(1).sqrt();
  const double relative = 6 / std::sqrt(2.0 * 2500);
  EXPECT_LE(sigma.max().item<double>(), 0.4 * (1 + relative));
  EXPECT_GE(sigma.max().item<double>(), 0.36);
  EXPECT_LE(sigma.min().item<double>(), 0.04);
  EXPECT_NEAR(sigma.mean().item<double>(), 0.2, 5 * 0.4 / std::sqrt(12.0 * 200));
}

}  // namespace
}  // namespace amalgam
