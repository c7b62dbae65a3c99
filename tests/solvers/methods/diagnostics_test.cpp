#include "solvers/methods/diagnostics.h"

#include <gtest/gtest.h>

#include "solvers/merge_case.h"

namespace amalgam {
namespace {

using test::MergeCase;

TEST(EffectiveRank, CountsDirectionsOfEqualEnergy) {
  const at::Tensor matrices =
      at::stack({at::eye(4, at::kDouble) * 3, at::diag(at::tensor({1.0, 1.0, 0.0, 0.0}, at::kDouble)),
                 at::zeros({4, 4}, at::kDouble)});
  EXPECT_TRUE(at::allclose(effective_rank(matrices), at::tensor({4.0, 2.0, 0.0}, at::kDouble)));
}

struct Diagnosed : testing::TestWithParam<const char*> {
  MergeCase merge_case;

  /// Inputs that never touch the last of five directions.
  LayerDiagnostics of() {
    merge_case.add(test::linear("fc", 4, 5, false));
    merge_case.draw({"a", "b"});
    for (auto& task : merge_case.data) task["fc"].inputs.select(2, 4).zero_();
    merge_case.build();
    outcome = merge_case.merge(GetParam());
    return outcome.report.layers[0].diagnostics.value();
  }
  MergeOutcome outcome;
};

TEST_P(Diagnosed, DistancesAndUnseenShareAreTheDefinitions) {
  const LayerDiagnostics got = of();
  const at::Tensor merged = outcome.merged.at("fc.weight"),
                   mean = (merge_case.experts[0].at("fc.weight") + merge_case.experts[1].at("fc.weight")) / 2;
  const auto ratio = [&](const at::Tensor& of) { return (of.norm() / mean.norm()).item<double>(); };
  EXPECT_NEAR(got.from_average, ratio(merged - mean), 1e-9);
  ASSERT_EQ(got.from_expert.size(), 2);
  for (size_t m = 0; m < 2; ++m)
    EXPECT_NEAR(got.from_expert[m], ratio(merged - merge_case.experts[m].at("fc.weight")), 1e-9);
  const double unseen = (merged.select(1, 4).norm() / merged.norm()).item<double>();
  EXPECT_NEAR(got.unseen, unseen * unseen, 1e-9);
  ASSERT_EQ(got.effective_rank.size(), 2);
  for (size_t m = 0; m < 2; ++m) {
    const at::Tensor a = merge_case.a_of(m, "fc");
    EXPECT_NEAR(got.effective_rank[m], (a.trace() * a.trace() / a.square().sum()).item<double>(), 1e-9);
  }
}

INSTANTIATE_TEST_SUITE_P(Methods, Diagnosed,
                         testing::Values("regmean", "mats", "{method: mats, precision: mixed}",
                                         "{method: mats, solver: direct}"));

TEST(Diagnostics, EstimateTheConditionWhereConjugateGradientsRan) {
  MergeCase merge_case;
  merge_case.add(test::linear("fc", 6, 5, true));
  merge_case.draw({"a", "b", "c"});
  merge_case.build();
  const auto plain = merge_case.merge("{method: mats, preconditioner: none, tolerance: 1e-10}"),
             quick = merge_case.merge("{method: mats, tolerance: 1e-10}");
  EXPECT_GT(plain.report.layers[0].diagnostics->condition.value(),
            quick.report.layers[0].diagnostics->condition.value());
  EXPECT_FALSE(merge_case.merge("regmean").report.layers[0].diagnostics->condition.has_value());
}

TEST(Diagnostics, OfAGroupedConvolutionAreOfItsGroupsTogether) {
  MergeCase merge_case;
  merge_case.add(test::convolution("conv", 6, 2, 1, 3, false));
  merge_case.draw({"a", "b"});
  merge_case.build();
  const auto outcome = merge_case.merge("mats");
  const at::Tensor merged = outcome.merged.at("conv.weight");
  const at::Tensor &first = merge_case.experts[0].at("conv.weight"), &second = merge_case.experts[1].at("conv.weight");
  const double expected = ((merged - first).norm() / ((first + second) / 2).norm()).item<double>();
  EXPECT_NEAR(outcome.report.layers[0].diagnostics->from_expert[0], expected, 1e-9);
}

}  // namespace
}  // namespace amalgam
