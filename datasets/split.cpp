#include "datasets/split.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/random.h"

namespace amalgam {

const char* name_of(Split split) {
  switch (split) {
    case Split::kTrain:
      return "train";
    case Split::kVal:
      return "val";
    case Split::kTest:
      return "test";
  }
  TORCH_INTERNAL_ASSERT(false);
}

Split split_from_name(const std::string& name) {
  for (const Split split : {Split::kTrain, Split::kVal, Split::kTest})
    if (name == name_of(split)) return split;
  throw InputError(fmt::format("there is no split '{}'{}", name, suggestion(name, {"train", "val", "test"})));
}

std::vector<int64_t> cut_train(int64_t count, double fraction, uint64_t seed, Split part) {
  TORCH_CHECK(part != Split::kTest, "test is never cut from train");
  TORCH_CHECK(count >= 1 && fraction >= 0 && fraction < 1);
  std::vector<int64_t> order = RandomStream(seed, "val split").permutation(count);
  const int64_t val = fraction > 0 ? std::max<int64_t>(1, std::llround(fraction * static_cast<double>(count))) : 0;
  const auto cut = order.begin() + val;
  std::vector<int64_t> rows(part == Split::kVal ? order.begin() : cut, part == Split::kVal ? cut : order.end());
  std::sort(rows.begin(), rows.end());
  return rows;
}

}  // namespace amalgam
