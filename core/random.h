#pragma once

#include <ATen/ATen.h>
#include <ATen/core/Generator.h>

#include <cstdint>
#include <string_view>
#include <vector>

namespace amalgam {

/// Counter-based random streams: a draw depends on its key alone, never on what was drawn before it. So a draw is the
/// same whatever the batch, the rank or the restart.
class RandomStream {
 public:
  /// @param label says what the draws are for ("labels/left"), so that no two uses share a stream
  RandomStream(uint64_t seed, std::string_view label);

  /// 64 random bits of draw (`example`, `position`).
  uint64_t bits(uint64_t example, uint64_t position = 0) const;
  /// In [0, 1), 53 bits.
  double uniform(uint64_t example, uint64_t position = 0) const;
  /// Standard normal (Box-Muller on draws 2 `position` and 2 `position` + 1).
  double normal(uint64_t example, uint64_t position = 0) const;
  /// A generator for LibTorch's own draws (weights of a new model), seeded by draw `example`.
  at::Generator generator(uint64_t example = 0) const;
  /// 0 … n-1 in random order (Fisher-Yates on draws (`example`, i)).
  std::vector<int64_t> permutation(int64_t n, uint64_t example = 0) const;

 private:
  uint64_t key_;
};

}  // namespace amalgam
