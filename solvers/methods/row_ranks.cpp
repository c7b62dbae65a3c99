#include "solvers/methods/row_ranks.h"

#include <ATen/Parallel.h>

#include <array>
#include <bit>
#include <limits>
#include <vector>

namespace amalgam {
namespace {

constexpr int kDigitBits = 8, kDigits = 4;
constexpr size_t kRadix = size_t{1} << kDigitBits;

/// A value's bits above its place.
using Entry = uint64_t;
constexpr int kPlaceBits = 32;

size_t digit_of(Entry entry, int digit) { return (entry >> (kPlaceBits + digit * kDigitBits)) & (kRadix - 1); }

/// Room for one row, used for one after the other.
class RowSorter {
 public:
  explicit RowSorter(size_t n) : entries_(n), sorted_(n) {}

  void rank(const float* values, int32_t* ranks) {
    std::array<std::array<uint32_t, kRadix>, kDigits> counts{};
    for (size_t i = 0; i < entries_.size(); ++i) {
      entries_[i] = Entry{std::bit_cast<uint32_t>(values[i])} << kPlaceBits | i;
      for (int digit = 0; digit < kDigits; ++digit) ++counts[static_cast<size_t>(digit)][digit_of(entries_[i], digit)];
    }
    for (int digit = 0; digit < kDigits; ++digit) sort_by(digit, counts[static_cast<size_t>(digit)]);
    for (size_t i = 0; i < entries_.size(); ++i) ranks[static_cast<uint32_t>(entries_[i])] = static_cast<int32_t>(i);
  }

 private:
  /// Stable.
  void sort_by(int digit, std::array<uint32_t, kRadix>& counts) {
    uint32_t begin = 0;
    for (uint32_t& count : counts) begin += std::exchange(count, begin);
    for (const Entry entry : entries_) sorted_[counts[digit_of(entry, digit)]++] = entry;
    entries_.swap(sorted_);
  }

  std::vector<Entry> entries_, sorted_;
};

}  // namespace

at::Tensor ranks_in_rows(const at::Tensor& values) {
  TORCH_CHECK(values.dim() == 2 && values.size(1) <= std::numeric_limits<int32_t>::max(),
              "ranks of rows of a matrix, and got ", values.sizes());
  const at::Tensor floats = values.to(at::kCPU, at::kFloat).contiguous();
  at::Tensor ranks = at::empty(values.sizes(), at::kInt);
  const int64_t n = values.size(1);
  const float* value = floats.const_data_ptr<float>();
  int32_t* rank = ranks.mutable_data_ptr<int32_t>();
  at::parallel_for(0, values.size(0), 1, [&](int64_t begin, int64_t end) {
    RowSorter sorter(static_cast<size_t>(n));
    for (int64_t row = begin; row < end; ++row) sorter.rank(value + row * n, rank + row * n);
  });
  return ranks;
}

}  // namespace amalgam
