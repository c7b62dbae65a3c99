#include "core/random.h"

#include <ATen/CPUGeneratorImpl.h>

#include <cmath>
#include <numbers>
#include <numeric>
#include <utility>

namespace amalgam {
namespace {

/// The finaliser of SplitMix64 (Steele, Lea & Flood 2014): a bijection that mixes all bits.
uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

}  // namespace

RandomStream::RandomStream(uint64_t seed, std::string_view label) : key_(mix(seed)) {
  for (const char c : label) key_ = mix(key_ ^ static_cast<unsigned char>(c));
}

uint64_t RandomStream::bits(uint64_t example, uint64_t position) const {
  return mix(mix(mix(key_ ^ mix(example)) + position));
}

double RandomStream::uniform(uint64_t example, uint64_t position) const {
  return static_cast<double>(bits(example, position) >> 11) * 0x1.0p-53;
}

double RandomStream::normal(uint64_t example, uint64_t position) const {
  const double radius = std::sqrt(-2.0 * std::log1p(-uniform(example, 2 * position)));
  return radius * std::cos(2.0 * std::numbers::pi * uniform(example, 2 * position + 1));
}

at::Generator RandomStream::generator(uint64_t example) const {
  return at::make_generator<at::CPUGeneratorImpl>(bits(example));
}

std::vector<int64_t> RandomStream::permutation(int64_t n, uint64_t example) const {
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), int64_t{0});
  for (size_t i = order.size(); i > 1; --i) {
    // A 128-bit product maps 64 bits on [0, i) with a bias below i / 2^64.
    const auto j = static_cast<size_t>((static_cast<unsigned __int128>(bits(example, i)) * i) >> 64);
    std::swap(order[i - 1], order[j]);
  }
  return order;
}

}  // namespace amalgam
