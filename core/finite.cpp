#include "core/finite.h"

#include <ATen/Parallel.h>

#include <atomic>

namespace amalgam {
namespace {

constexpr int64_t kGrain = int64_t{1} << 16;

/// A value is infinite or no number where all bits of its exponent are set.
template <class Bits>
bool no_exponent_is_full(const void* data, int64_t count, Bits exponent) {
  const auto* bits = static_cast<const Bits*>(data);
  std::atomic<bool> finite = true;
  at::parallel_for(0, count, kGrain, [&](int64_t begin, int64_t end) {
    Bits full = 0;
    for (int64_t i = begin; i < end; ++i) full |= static_cast<Bits>((bits[i] & exponent) == exponent ? 1 : 0);
    if (full != 0) finite = false;
  });
  return finite;
}

}  // namespace

bool all_finite(const at::Tensor& values) {
  if (values.is_cpu() && values.is_contiguous()) {
    const void* data = values.const_data_ptr();
    const int64_t count = values.numel();
    switch (values.scalar_type()) {
      case at::kFloat:
        return no_exponent_is_full<uint32_t>(data, count, 0x7f800000U);
      case at::kDouble:
        return no_exponent_is_full<uint64_t>(data, count, 0x7ff0000000000000U);
      case at::kBFloat16:
        return no_exponent_is_full<uint16_t>(data, count, 0x7f80U);
      case at::kHalf:
        return no_exponent_is_full<uint16_t>(data, count, 0x7c00U);
      default:
        break;
    }
  }
  return values.isfinite().all().item<bool>();
}

}  // namespace amalgam
