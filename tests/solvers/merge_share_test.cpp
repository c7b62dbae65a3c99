#include "solvers/merge_share.h"

#include <gtest/gtest.h>

#include "solvers/grouping.h"
#include "solvers/merge_case.h"

namespace amalgam {
namespace {

using test::MergeCase;

TEST(MergeShare, GivesTheMostCostlyFirstToWhoHasLeast) {
  // 9 -> 0, 7 -> 1, 5 -> 2, 4 -> 2 (5 < 7), 3 -> 1 (7 < 9), 1 -> 0 (9, of three equal ones the first)
  EXPECT_EQ(share_out({3, 9, 4, 7, 1, 5}, {0, 0, 0}), (std::vector<int>{1, 0, 2, 1, 0, 2}));
}

TEST(MergeShare, TakesTheEarlierOfEqualPiecesFirst) {
  EXPECT_EQ(share_out({2, 2, 2, 2}, {0, 0}), (std::vector<int>{0, 1, 0, 1}));
}

TEST(MergeShare, CountsWhatAProcessHasToDoBesides) {
  EXPECT_EQ(share_out({2, 2, 2}, {10, 0}), (std::vector<int>{1, 1, 1}));
}

TEST(MergeShare, LeavesAllToOneProcessAndNothingToTooMany) {
  EXPECT_EQ(share_out({1, 5, 2}, {0}), (std::vector<int>{0, 0, 0}));
  EXPECT_EQ(share_out({1, 5}, {0, 0, 0}), (std::vector<int>{1, 0}));
  EXPECT_TRUE(share_out({}, {0, 0}).empty());
}

TEST(MergeShare, CountsLayersBySolvesAndParametersByElements) {
  MergeCase merge_case;
  merge_case.add(test::convolution("c", 8, 2, 2, 2, true));  // two groups of [4, 8 + 1]
  merge_case.parameter("p", {3, 5});
  merge_case.draw({"x", "y", "z"});
  const MergeInput& input = merge_case.build();
  const LayerMatrix layer(merge_case.layer("c"), true);
  EXPECT_EQ(merge_cost({{}, {layer}}, input), 3.0 * 2 * (4 * 4 * 9 + 4 * 9 * 9));
  EXPECT_EQ(merge_cost({{"p"}, {}}, input), 3.0 * 15);
}

TEST(MergeShare, KeepsResultsInTheDtypeOfTheExperts) {
  MergeCase merge_case;
  merge_case.add(test::linear("one", 3, 4, true));
  merge_case.add(test::linear("mixed", 3, 4, true));
  merge_case.parameter("p", {2});
  merge_case.draw({"x"});
  for (auto* tensors : {&merge_case.base, &merge_case.experts[0]})
    for (const char* name : {"one.weight", "one.bias", "mixed.weight", "p"})
      tensors->at(name) = tensors->at(name).to(at::kHalf);
  const MergeInput& input = merge_case.build();
  MergeGroup group{{"p"}, {LayerMatrix(merge_case.layer("one"), true), LayerMatrix(merge_case.layer("mixed"), true)}};
  const at::Tensor transposed = merge_case.random.normal({5, 3}).t().unsqueeze(0);  // [1, 3, 5]
  const GroupResult kept = settled({{{"p", at::ones({2})}}, {transposed, transposed}, {}}, group, input);
  EXPECT_EQ(kept.merged.at("p").scalar_type(), at::kHalf);
  EXPECT_EQ(kept.matrices[0].scalar_type(), at::kHalf);
  EXPECT_TRUE(kept.matrices[0].is_contiguous());
  EXPECT_TRUE(at::equal(kept.matrices[0], transposed.to(at::kHalf)));
  EXPECT_TRUE(at::equal(kept.matrices[1], transposed));  // its bias is float64
}

}  // namespace
}  // namespace amalgam
