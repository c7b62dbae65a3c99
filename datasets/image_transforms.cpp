#include "datasets/image_transforms.h"

#include <cmath>
#include <numbers>

#include "core/error.h"

namespace amalgam {

namespace {

/// `values`, one for each image, ready to be broadcast over `images`: [N, 1, 1, 1].
at::Tensor per_image(const std::vector<double>& values, const at::Tensor& images) {
  return at::tensor(values, at::kDouble).to(images.options()).view({-1, 1, 1, 1});
}

class Rotate final : public ImageTransform {
 public:
  void declare(OptionSet& set) override {
    set.real("rotate", degrees_, {-360, 360}, "turn by so many degrees, counter-clockwise; 0 outside");
  }
  at::Tensor apply(const at::Tensor& images, const ExampleDraws&) const override { return rotate(images, {degrees_}); }

 private:
  double degrees_ = 0;
};

class Resize final : public ImageTransform {
 public:
  void declare(OptionSet& set) override {
    set.integer("resize", side_, {1, 1 << 14}, "to a square of so many pixels a side, bilinear");
  }
  at::Tensor apply(const at::Tensor& images, const ExampleDraws&) const override {
    if (images.size(2) == side_ && images.size(3) == side_) return images;
    return at::upsample_bilinear2d(images, {side_, side_}, /*align_corners=*/false);
  }

 private:
  int64_t side_ = 28;
};

class Blur final : public ImageTransform {
 public:
  void declare(OptionSet& set) override {
    set.integer("blur", size_, {1, 99}, "mean over so many pixels squared, an odd number; 0 outside");
  }
  void validate(const std::string& where) const override {
    require_input(size_ % 2 == 1, "{}.blur: {} is even; give an odd number, so that the mean has a middle pixel", where,
                  size_);
  }
  at::Tensor apply(const at::Tensor& images, const ExampleDraws&) const override {
    return at::avg_pool2d(images, /*kernel_size=*/size_, /*stride=*/1, /*padding=*/size_ / 2, /*ceil_mode=*/false,
                          /*count_include_pad=*/true);
  }

 private:
  int64_t size_ = 1;
};

class Noise final : public ImageTransform {
 public:
  void declare(OptionSet& set) override {
    set.real("noise", sigma_, {0, 1e6},
             "add normal noise of this standard deviation, the same for an example at each visit");
  }
  bool draws() const override { return true; }
  at::Tensor apply(const at::Tensor& images, const ExampleDraws& draws) const override {
    return draws.normal_like(images).mul_(sigma_).add_(images);
  }

 private:
  double sigma_ = 0;
};

class Contrast final : public ImageTransform {
 public:
  void declare(OptionSet& set) override {
    set.section("contrast", line_, "scale x + offset: {scale: 0.25, offset: 0.5} dims");
  }
  at::Tensor apply(const at::Tensor& images, const ExampleDraws&) const override {
    return (images * line_.scale).add_(line_.offset);
  }

 private:
  struct Line {
    double scale = 1, offset = 0;
    void declare(OptionSet& set) {
      set.real("scale", scale, {-1e6, 1e6}, "factor");
      set.real("offset", offset, {-1e6, 1e6}, "what is added after it");
    }
  };
  Line line_;
};

class RandomRotate final : public ImageTransform {
 public:
  void declare(OptionSet& set) override {
    set.real("random_rotate", most_, {0, 180}, "turn by an angle drawn from -degrees to degrees");
  }
  bool draws() const override { return true; }
  at::Tensor apply(const at::Tensor& images, const ExampleDraws& draws) const override {
    return rotate(images, draws.uniform(-most_, most_));
  }

 private:
  double most_ = 0;
};

class RandomContrast final : public ImageTransform {
 public:
  void declare(OptionSet& set) override {
    set.reals("random_contrast", range_, {0, 1e6}, "[low, high]: (x - 0.5) s + 0.5, s drawn from low to high");
  }
  void validate(const std::string& where) const override {
    require_input(range_.size() == 2 && range_[0] <= range_[1],
                  "{}.random_contrast: expected [low, high], low not above high", where);
  }
  bool draws() const override { return true; }
  at::Tensor apply(const at::Tensor& images, const ExampleDraws& draws) const override {
    constexpr double kMiddle = 0.5;
    return (images - kMiddle).mul_(per_image(draws.uniform(range_[0], range_[1]), images)).add_(kMiddle);
  }

 private:
  std::vector<double> range_ = {1, 1};
};

class RandomBrightness final : public ImageTransform {
 public:
  void declare(OptionSet& set) override {
    set.real("random_brightness", most_, {0, 1e6}, "add a number drawn from -most to most");
  }
  bool draws() const override { return true; }
  at::Tensor apply(const at::Tensor& images, const ExampleDraws& draws) const override {
    return images + per_image(draws.uniform(-most_, most_), images);
  }

 private:
  double most_ = 0;
};

class RandomNoise final : public ImageTransform {
 public:
  void declare(OptionSet& set) override {
    set.real("random_noise", most_, {0, 1e6}, "add normal noise of a standard deviation drawn from 0 to this");
  }
  bool draws() const override { return true; }
  at::Tensor apply(const at::Tensor& images, const ExampleDraws& draws) const override {
    return draws.normal_like(images).mul_(per_image(draws.uniform(0, most_), images)).add_(images);
  }

 private:
  double most_ = 0;
};

template <class T>
std::unique_ptr<ImageTransform> make() {
  return std::make_unique<T>();
}

}  // namespace

std::vector<double> ExampleDraws::uniform(double low, double high) const {
  std::vector<double> values;
  values.reserve(ids.size());
  for (const int64_t id : ids)
    values.push_back(low + (high - low) * stream.uniform(static_cast<uint64_t>(id), static_cast<uint64_t>(epoch)));
  return values;
}

at::Tensor ExampleDraws::normal_like(const at::Tensor& images) const {
  // One LibTorch generator an example: its draws are vectorised, draws by position are not.
  at::Tensor noise = at::empty(images.sizes(), images.options().device(at::kCPU));
  for (size_t n = 0; n < ids.size(); ++n) {
    const uint64_t key = stream.bits(static_cast<uint64_t>(ids[n]), static_cast<uint64_t>(epoch));
    noise[static_cast<int64_t>(n)].normal_(0, 1, stream.generator(key));
  }
  return noise.to(images.device());
}

const std::map<std::string, std::unique_ptr<ImageTransform> (*)()>& image_transforms() {
  static const std::map<std::string, std::unique_ptr<ImageTransform> (*)()> transforms = {
      {"rotate", make<Rotate>},
      {"resize", make<Resize>},
      {"blur", make<Blur>},
      {"noise", make<Noise>},
      {"contrast", make<Contrast>},
      {"random_rotate", make<RandomRotate>},
      {"random_contrast", make<RandomContrast>},
      {"random_brightness", make<RandomBrightness>},
      {"random_noise", make<RandomNoise>},
  };
  return transforms;
}

at::Tensor rotate(const at::Tensor& images, const std::vector<double>& degrees) {
  const int64_t count = images.size(0);
  TORCH_CHECK(degrees.size() == 1 || static_cast<int64_t>(degrees.size()) == count,
              "one angle an image, or one for all");
  const double height = static_cast<double>(images.size(2)), width = static_cast<double>(images.size(3));
  // Where the pixel (x, y) of the result is taken from, with x to the right and y down, both from -1 to 1 across the
  // image: a clockwise turn of the place turns the picture counter-clockwise, and H/W undoes the scale of the two axes.
  std::vector<double> rows;
  for (const double angle : degrees) {
    const double c = std::cos(angle * std::numbers::pi / 180), s = std::sin(angle * std::numbers::pi / 180);
    for (const double value : {c, -s * height / width, 0.0, s * width / height, c, 0.0}) rows.push_back(value);
  }
  const at::Tensor matrices = at::tensor(rows, at::kDouble).to(images.options()).view({-1, 2, 3}).expand({count, 2, 3});
  const at::Tensor places =
      at::affine_grid_generator(matrices, images.sizes(), /*align_corners=*/false);  // [N, H, W, 2]
  constexpr int64_t kBilinear = 0, kZeros = 0;
  return at::grid_sampler(images, places, kBilinear, kZeros, /*align_corners=*/false);
}

}  // namespace amalgam
