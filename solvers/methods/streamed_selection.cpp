#include "solvers/methods/streamed_selection.h"

#include <bit>
#include <cmath>

namespace amalgam {
namespace {

constexpr uint32_t kSign = uint32_t{1} << 31;
constexpr size_t kBins = size_t{1} << 16;

/// In the order of the values: the bits of a float32 are, but for the sign, and for the negative ones, which run
/// backwards. Both zeros have one.
uint32_t key_of(float value) {
  const auto bits = std::bit_cast<uint32_t>(value + 0.0F);
  return (bits & kSign) != 0 ? ~bits : bits | kSign;
}

float value_of(uint32_t key) { return std::bit_cast<float>((key & kSign) != 0 ? key & ~kSign : ~key); }

size_t upper(uint32_t key) { return key >> 16; }

size_t lower(uint32_t key) { return key & (kBins - 1); }

/// One loop on the CPU, wherever the values are: counting is bound by memory, and a GPU would need atomic additions.
template <class Take>
void for_each_key(const at::Tensor& values, const Take& take) {
  const at::Tensor floats = values.to(at::kCPU, at::kFloat).contiguous();
  const float* value = floats.const_data_ptr<float>();
  bool numbers = true;
  for (int64_t i = 0; i < floats.numel(); ++i) {
    numbers = numbers && !std::isnan(value[i]);
    take(key_of(value[i]));
  }
  TORCH_CHECK(numbers, "values that are not numbers have no order");
}

/// How many values fall in each of 2^16 bins.
class Histogram {
 public:
  void add(size_t bin) { ++counts_[bin]; }

  /// The bin of the k-th largest value, k from 1; what is left is k's rank in that bin.
  /// @throws c10::Error if there are fewer values
  size_t find(int64_t& k) const {
    for (size_t bin = kBins; bin-- > 0;) {
      if (k <= counts_[bin]) return bin;
      k -= counts_[bin];
    }
    TORCH_CHECK(false, "a stream ends ", k, " values before the one that is looked for");
  }

 private:
  std::vector<int64_t> counts_ = std::vector<int64_t>(kBins);
};

/// Where one rank of one stream has been found to lie.
struct Place {
  size_t bin = 0;    // of the upper half
  int64_t left = 0;  // the rank among the values of that bin; 0: no value is looked for
  Histogram lower_halves;

  RankedValue value() {
    if (left == 0) return {};
    const size_t low = lower_halves.find(left);
    return {value_of(static_cast<uint32_t>(bin * kBins + low)), left};
  }
};

}  // namespace

std::vector<std::vector<RankedValue>> kth_largest(size_t streams, const std::vector<int64_t>& ranks,
                                                  const GiveValues& give) {
  std::vector<Histogram> upper_halves(streams);
  give([&](size_t stream, const at::Tensor& values) {
    Histogram& histogram = upper_halves.at(stream);
    for_each_key(values, [&](uint32_t key) { histogram.add(upper(key)); });
  });
  std::vector<std::vector<Place>> places(streams);
  for (size_t stream = 0; stream < streams; ++stream)
    for (const int64_t rank : ranks) {
      Place& place = places[stream].emplace_back();
      place.left = rank;
      if (rank > 0) place.bin = upper_halves[stream].find(place.left);
    }
  give([&](size_t stream, const at::Tensor& values) {
    std::vector<Place>& of_stream = places.at(stream);
    for_each_key(values, [&](uint32_t key) {
      for (Place& place : of_stream)
        if (place.left > 0 && upper(key) == place.bin) place.lower_halves.add(lower(key));
    });
  });
  std::vector<std::vector<RankedValue>> results(streams);
  for (size_t stream = 0; stream < streams; ++stream)
    for (Place& place : places[stream]) results[stream].push_back(place.value());
  return results;
}

at::Tensor LargestMask::operator()(const at::Tensor& values) {
  const at::Tensor floats = values.to(at::kCPU, at::kFloat).contiguous();
  at::Tensor mask = at::empty(values.sizes(), at::kBool);
  const float* value = floats.const_data_ptr<float>();
  bool* marked = mask.mutable_data_ptr<bool>();
  for (int64_t i = 0; i < floats.numel(); ++i)
    marked[i] = value[i] > kth_ || (value[i] == kth_ && left_ > 0 && left_-- > 0);
  return mask.to(values.device());
}

}  // namespace amalgam
