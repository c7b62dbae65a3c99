#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/options.h"
#include "core/random.h"

namespace amalgam {

/// Where a transform gets its random numbers: one draw for each (example, epoch), whatever the batch.
struct ExampleDraws {
  const RandomStream& stream;
  const std::vector<int64_t>& ids;
  int64_t epoch;

  /// Uniform in [low, high], one for each example.
  std::vector<double> uniform(double low, double high) const;
  /// Standard normal, in the shape, dtype and device of `images` [N, …].
  at::Tensor normal_like(const at::Tensor& images) const;
};

/// One transform of images.
class ImageTransform {
 public:
  virtual ~ImageTransform() = default;

  /// Declares its one key: name, default, range, help.
  virtual void declare(OptionSet& set) = 0;
  /// Checks what a range cannot say.
  virtual void validate(const std::string& /*where*/) const {}
  virtual bool draws() const { return false; }
  /// @param images  float32 or float64 [N, C, H, W]
  virtual at::Tensor apply(const at::Tensor& images, const ExampleDraws& draws) const = 0;
};

/// Makes each transform, by name.
const std::map<std::string, std::unique_ptr<ImageTransform> (*)()>& image_transforms();

/// Turns images about their centre, bilinear, 0 outside; positive angles counter-clockwise.
/// @param images   floating [N, C, H, W]
/// @param degrees  one for each image, or a single one for all
at::Tensor rotate(const at::Tensor& images, const std::vector<double>& degrees);

}  // namespace amalgam
