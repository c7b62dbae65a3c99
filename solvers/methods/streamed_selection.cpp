#include "solvers/methods/streamed_selection.h"

#include <bit>
#include <limits>

namespace amalgam {
namespace {

constexpr int64_t kBins = int64_t{1} << 16;

/// int32 [n] in the order of the values: the bits of a float32 are, but for the negative ones, where they run
/// backwards.
at::Tensor ordered_keys(const at::Tensor& values) {
  const at::Tensor bits = values.flatten().to(at::kFloat).contiguous().view(at::kInt);
  return at::where(bits < 0, bits.bitwise_xor(std::numeric_limits<int32_t>::max()), bits);
}

float value_of(int64_t key) {
  const auto bits = static_cast<int32_t>(key);
  return std::bit_cast<float>(bits < 0 ? bits ^ std::numeric_limits<int32_t>::max() : bits);
}

/// The upper half of a key, counted from 0.
at::Tensor upper(const at::Tensor& keys) { return keys.bitwise_right_shift(16).add_(kBins / 2); }

at::Tensor lower(const at::Tensor& keys) { return keys.bitwise_and(kBins - 1); }

/// How many values fall in each of 2^16 bins.
class Histogram {
 public:
  void add(const at::Tensor& bins) {
    if (bins.numel() > 0) counts_.add_(at::bincount(bins, {}, kBins).cpu());
  }

  /// The bin of the k-th largest value, k from 1; what is left is k's rank in that bin.
  /// @throws c10::Error if there are fewer values
  int64_t find(int64_t& k) const {
    const int64_t* counts = counts_.const_data_ptr<int64_t>();
    for (int64_t bin = kBins - 1; bin >= 0; --bin) {
      if (k <= counts[bin]) return bin;
      k -= counts[bin];
    }
    TORCH_CHECK(false, "a stream ends ", k, " values before the one that is looked for");
  }

 private:
  at::Tensor counts_ = at::zeros({kBins}, at::kLong);  // [2^16]
};

/// Where one rank of one stream has been found to lie.
struct Place {
  int64_t bin = 0;   // of the upper half
  int64_t left = 0;  // the rank among the values of that bin; 0: no value is looked for
  Histogram lower_halves;
};

}  // namespace

std::vector<std::vector<float>> kth_largest(size_t streams, const std::vector<int64_t>& ranks, const GiveValues& give) {
  std::vector<Histogram> upper_halves(streams);
  give([&](size_t stream, const at::Tensor& values) {
    TORCH_CHECK(!values.isnan().any().item<bool>(), "values that are not numbers have no order");
    upper_halves.at(stream).add(upper(ordered_keys(values)));
  });
  std::vector<std::vector<Place>> places(streams);
  for (size_t stream = 0; stream < streams; ++stream)
    for (const int64_t rank : ranks) {
      Place& place = places[stream].emplace_back();
      place.left = rank;
      if (rank > 0) place.bin = upper_halves[stream].find(place.left);
    }
  give([&](size_t stream, const at::Tensor& values) {
    const at::Tensor keys = ordered_keys(values), upper_half = upper(keys);
    for (Place& place : places.at(stream))
      if (place.left > 0) place.lower_halves.add(lower(keys.masked_select(upper_half == place.bin)));
  });
  std::vector<std::vector<float>> results(streams);
  for (size_t stream = 0; stream < streams; ++stream)
    for (Place& place : places[stream])
      results[stream].push_back(place.left == 0
                                    ? std::numeric_limits<float>::infinity()
                                    : value_of((place.bin - kBins / 2) * kBins + place.lower_halves.find(place.left)));
  return results;
}

}  // namespace amalgam
