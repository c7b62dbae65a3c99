#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/options.h"
#include "core/random.h"

namespace amalgam {

class ImageTransform;

/// What a recipe asks to be done to images x [N, C, H, W], in its order. Values run from 0 to 1 where they come from
/// bytes; they are not clamped, so that no transform hides what another did.
///
/// | | |
/// | --- | --- |
/// | rotate: degrees | bilinear about the centre, 0 outside; positive turns the picture counter-clockwise |
/// | resize: side | to [N, C, side, side], bilinear between the centres of the pixels |
/// | blur: k | mean over k x k pixels, k odd, 0 outside |
/// | noise: sigma | x + σ n, n standard normal |
/// | contrast: {scale, offset} | scale · x + offset |
/// | random_rotate: degrees | as rotate, by an angle drawn from [-degrees, degrees] |
/// | random_contrast: [low, high] | (x - 0.5) · s + 0.5, s drawn from [low, high] |
/// | random_brightness: most | x + b, b drawn from [-most, most] |
/// | random_noise: sigma | x + s n, s drawn from [0, sigma] |
///
/// Each transform draws from a stream of its own, keyed by (seed, label, its place in the list), one draw for each
/// (example, epoch): the same whatever batch the example comes in.
class TransformSequence {
 public:
  TransformSequence();
  explicit TransformSequence(std::vector<std::unique_ptr<ImageTransform>> transforms);
  ~TransformSequence();
  TransformSequence(TransformSequence&&) noexcept;
  TransformSequence& operator=(TransformSequence&&) noexcept;

  /// @param label  what the draws are for: the task and the split
  void set_streams(uint64_t seed, const std::string& label);

  bool empty() const { return transforms_.empty(); }
  /// The list as it was understood, and where its draws come from, if it draws: "[{noise: 0.5}] seed 0 noisy/test".
  /// Equal identities do the same to an example of one number.
  std::string identity() const;

  /// @param images  floating [N, C, H, W]; half precision is computed in float32 and given back as it came
  /// @param ids     the examples' numbers, N of them
  /// @param epoch   counts the passes of augmentation; 0 where each example is drawn once and for all
  at::Tensor apply(at::Tensor images, const std::vector<int64_t>& ids, int64_t epoch = 0) const;

 private:
  std::vector<std::unique_ptr<ImageTransform>> transforms_;
  std::vector<RandomStream> streams_;  // one for each
  uint64_t seed_ = 0;
  std::string label_;
};

/// @param list   one-key maps: [{rotate: 34}, {blur: 5}]; null: none
/// @param where  path of the list for messages: "tasks[0].data.transforms"
/// @throws InputError for an unknown transform (naming the nearest), a wrong type, a value out of range
TransformSequence parse_transforms(const YAML::Node& list, const std::string& where);

/// Name, type of value and help of every transform.
std::vector<OptionSet::Description> describe_transforms();

}  // namespace amalgam
