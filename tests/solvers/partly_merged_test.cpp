#include "solvers/partly_merged.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "solvers/merge_case.h"

namespace amalgam {
namespace {

/// Rows [begin, end) of a packed weight [6, 3] with its bias [6].
Layer slice(int64_t begin, int64_t end) {
  Layer layer = test::linear("packed", end - begin, 3, true);
  layer.name = layer.input_of = fmt::format("packed[{}:{}]", begin, end);
  layer.row_begin = begin;
  layer.row_end = end;
  return layer;
}

TEST(PartlyMerged, TakesPendingRowsOfAPackedParameterFromTheExpert) {
  const Layer first = slice(0, 2), second = slice(2, 4), alone = test::linear("alone", 2, 3, false);
  const MemoryTensors expert({{"packed.weight", at::full({6, 3}, 2.0)},
                              {"packed.bias", at::full({6}, 2.0)},
                              {"alone.weight", at::full({2, 3}, 2.0)}});
  NamedTensors merged = {{"norm", at::ones({3})}};
  PartlyMerged so_far(merged, {{first, true}, {second, true}, {alone, false}});
  EXPECT_EQ(so_far.over(expert).size(), 1);

  // The first slice is merged; nobody has written the second yet; the last two rows are an average.
  merged["packed.weight"] = at::full({6, 3}, 1.0);
  merged["packed.bias"] = at::full({6}, 1.0);
  so_far.advance(1);
  const NamedTensors values = so_far.over(expert);
  EXPECT_EQ(values.size(), 3);
  const at::Tensor rows = at::tensor({1.0, 1.0, 2.0, 2.0, 1.0, 1.0}, at::kFloat);
  EXPECT_TRUE(at::equal(values.at("packed.bias"), rows));
  EXPECT_TRUE(at::equal(values.at("packed.weight"), rows.unsqueeze(1).expand({6, 3})));
  EXPECT_TRUE(at::equal(merged.at("packed.bias"), at::ones({6})));  // is left alone

  so_far.advance(1);
  EXPECT_TRUE(so_far.over(expert).at("packed.weight").is_same(merged.at("packed.weight")));
}

TEST(PartlyMerged, TakesTheExpertsBiasWhereOnlyTheWeightIsPartlyMerged) {
  const Layer layer = slice(0, 6);
  const MemoryTensors expert({{"packed.weight", at::full({6, 3}, 2.0)}, {"packed.bias", at::full({6}, 2.0)}});
  const NamedTensors merged = {{"packed.weight", at::ones({6, 3})}};
  const NamedTensors values = PartlyMerged(merged, {{layer, true}}).over(expert);
  EXPECT_TRUE(at::equal(values.at("packed.weight"), expert.get("packed.weight")));
  EXPECT_TRUE(at::equal(values.at("packed.bias"), expert.get("packed.bias")));
}

}  // namespace
}  // namespace amalgam
