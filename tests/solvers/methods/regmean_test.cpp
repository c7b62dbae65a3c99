#include "solvers/methods/regmean.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "solvers/merge_case.h"

namespace amalgam {
namespace {

using test::difference;
using test::MergeCase;

/// W = (Σ s W_m Ã_m)(Σ s Ã_m)⁻¹, by an inverse.
at::Tensor reference(const MergeCase& merge_case, const std::string& layer, double lambda,
                     const std::vector<double>& say) {
  at::Tensor numerator, denominator;
  for (size_t m = 0; m < say.size(); ++m) {
    const at::Tensor plain = merge_case.a_of(m, layer);
    const at::Tensor gram = (lambda * plain + (1 - lambda) * at::diag(plain.diag())) * say[m];
    const at::Tensor product = MergeCase::matrix(merge_case.experts[m], layer).mm(gram);
    numerator = m == 0 ? product : numerator + product;
    denominator = m == 0 ? gram : denominator + gram;
  }
  return numerator.mm(at::linalg_inv(denominator));
}

TEST(RegMean, MatchesTheNormalEquationsWithAndWithoutBias) {
  for (const bool bias : {false, true}) {
    MergeCase merge_case;
    merge_case.add(test::linear("fc", 5, 7, bias));
    merge_case.draw({"a", "b", "c"});
    merge_case.weights = {1.0, 2.0, 0.5};
    merge_case.build();
    for (const double lambda : {1.0, 0.9, 0.0}) {
      const auto merged =
          merge_case.merge(fmt::format("{{method: regmean, off_diagonal: {}, ridge: 0}}", lambda)).merged;
      EXPECT_LE(difference(MergeCase::matrix(merged, "fc"), reference(merge_case, "fc", lambda, merge_case.weights)),
                1e-12);
    }
  }
}

TEST(RegMean, WeighsByTheTraceOfTheOutputGradients) {
  MergeCase merge_case;
  merge_case.add(test::linear("fc", 5, 7, true));
  merge_case.draw({"a", "b"});
  merge_case.data[1]["fc"].gradients.mul_(3.0);
  merge_case.weights = {2.0, 1.0};
  merge_case.build();
  std::vector<double> say;
  for (size_t m = 0; m < 2; ++m) say.push_back(merge_case.weights[m] * merge_case.b_of(m, "fc").trace().item<double>());
  const auto merged = merge_case.merge("{method: regmean, weights: gradient, ridge: 0}").merged;
  EXPECT_LE(difference(MergeCase::matrix(merged, "fc"), reference(merge_case, "fc", 1.0, say)), 1e-12);
}

TEST(RegMean, OfOneExpertIsThatExpert) {
  MergeCase merge_case;
  merge_case.add(test::linear("fc", 5, 7, true));
  merge_case.draw({"a"});
  merge_case.build();
  const auto exact = merge_case.merge("{method: regmean, ridge: 0}").merged;
  EXPECT_LE(difference(MergeCase::matrix(exact, "fc"), MergeCase::matrix(merge_case.experts[0], "fc")), 1e-12);
  // The ridge pulls towards the base by its share of an eigenvalue: 1e-6 / 0.1 of the change, which is about 0.1.
  const auto ridged = merge_case.merge("regmean").merged;
  EXPECT_LE(difference(MergeCase::matrix(ridged, "fc"), MergeCase::matrix(merge_case.experts[0], "fc")), 1e-5);
}

TEST(RegMean, OfCopiesOfOneExpertIsThatExpert) {
  MergeCase merge_case;
  merge_case.add(test::linear("fc", 5, 7, true));
  merge_case.draw({"a", "b", "c"});
  for (auto& expert : merge_case.experts) expert = merge_case.experts[0];
  merge_case.build();
  const auto merged = merge_case.merge("{method: regmean, ridge: 0}").merged;
  EXPECT_LE(difference(MergeCase::matrix(merged, "fc"), MergeCase::matrix(merge_case.experts[0], "fc")), 1e-12);
  merge_case.input.base = nullptr;  // then the ridge pulls towards the average, which is the expert itself
  EXPECT_TRUE(at::equal(merge_case.merge("regmean").merged.at("fc.weight"), merge_case.experts[0]["fc.weight"]));
}

struct DeadInput : testing::Test {
  MergeCase merge_case;
  void build() {
    merge_case.add(test::linear("fc", 4, 5, false));
    merge_case.draw({"a", "b"});
    for (auto& task : merge_case.data) task["fc"].inputs.select(2, 3).zero_();  // no task ever feeds input 3
    merge_case.build();
  }
};

TEST_F(DeadInput, KeepsTheBase) {
  build();
  const auto merged = merge_case.merge("regmean").merged.at("fc.weight");
  EXPECT_TRUE(at::equal(merged.select(1, 3), merge_case.base["fc.weight"].select(1, 3)));
  EXPECT_GT(difference(merged, merge_case.base["fc.weight"]), 0.01);
}

TEST_F(DeadInput, KeepsTheAverageWithoutABase) {
  build();
  merge_case.input.base = nullptr;
  const auto merged = merge_case.merge("regmean").merged.at("fc.weight");
  const auto mean = (merge_case.experts[0]["fc.weight"] + merge_case.experts[1]["fc.weight"]) / 2;
  EXPECT_LE(difference(merged.select(1, 3), mean.select(1, 3)), 1e-15);
}

TEST_F(DeadInput, RaisesARidgeThatIsTooSmallAndSaysSo) {
  build();
  const MergeOutcome outcome = merge_case.merge("{method: regmean, ridge: 0}");
  ASSERT_EQ(outcome.report.layers.size(), 1);
  ASSERT_EQ(outcome.report.layers[0].notes.size(), 1);
  EXPECT_NE(outcome.report.layers[0].notes[0].find("raised to 1e-12"), std::string::npos)
      << outcome.report.layers[0].notes[0];
  EXPECT_LE(outcome.report.layers[0].residual, 1e-10);
}

TEST(RegMean, AveragesALayerThatSeesOnlyZeros) {
  MergeCase merge_case;
  merge_case.add(test::linear("fc", 4, 5, false));
  merge_case.draw({"a", "b"});
  for (auto& task : merge_case.data) task["fc"].inputs.zero_();
  merge_case.build();
  const MergeOutcome outcome = merge_case.merge("regmean");
  const auto mean = (merge_case.experts[0]["fc.weight"] + merge_case.experts[1]["fc.weight"]) / 2;
  EXPECT_LE(difference(outcome.merged.at("fc.weight"), mean), 1e-15);
  EXPECT_EQ(outcome.report.layers[0].notes.back(), "averaged: no task has a say");
}

TEST(RegMean, ReportsTheResidualOfTheSystemWithoutRidge) {
  MergeCase merge_case;
  merge_case.add(test::linear("fc", 4, 5, false));
  merge_case.draw({"a", "b"});
  merge_case.build();
  EXPECT_LE(merge_case.merge("{method: regmean, ridge: 0}").report.layers[0].residual, 1e-13);
  const double ridged = merge_case.merge("{method: regmean, ridge: 0.1}").report.layers[0].residual;
  EXPECT_GT(ridged, 0.01);
  EXPECT_LT(ridged, 0.5);
}

}  // namespace
}  // namespace amalgam
