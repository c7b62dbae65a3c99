#include "solvers/methods/tsv_m.h"

#include <gtest/gtest.h>

#include "solvers/linear/spectrum.h"
#include "solvers/methods/spectral_case.h"

namespace amalgam {
namespace {

using test::difference;
using test::MergeCase;
using test::NaiveSpectrum;
using test::weighted_change;

/// The paper's steps with k triplets a task, by eigendecompositions.
at::Tensor reference(const MergeCase& merge_case, const std::string& name, int64_t k) {
  std::vector<at::Tensor> u, s, v;
  for (size_t m = 0; m < merge_case.experts.size(); ++m) {
    const NaiveSpectrum own(weighted_change(merge_case, m, name).flatten(1));
    u.push_back(own.u.narrow(1, 0, k));
    s.push_back(own.s.narrow(0, 0, k));
    v.push_back(own.v.narrow(1, 0, k));
  }
  const at::Tensor left = test::naive_polar(at::cat(u, 1)), right = test::naive_polar(at::cat(v, 1));
  const at::Tensor base = merge_case.base.at(name).to(at::kDouble);
  return base + (left * at::cat(s)).mm(right.t()).view_as(base);
}

TEST(TsvM, MatchesTheFormulaInEveryDtype) {
  for (const auto& [dtype, epsilon] : test::kStoredDtypes) {
    MergeCase merge_case;
    test::spectral_case(merge_case, {"a", "b"});
    merge_case.store_as(dtype);
    merge_case.weights = {1.0, 1.5};
    merge_case.build();
    const auto merged = merge_case.merge("{method: tsv_m, convolutions: matrix}").merged;
    for (const char* name : {"tall", "wide", "kernel"})
      EXPECT_LE(difference(merged.at(name), reference(merge_case, name, 2)), 1e-11 + 2 * epsilon) << name << dtype;
    EXPECT_LE(difference(merged.at("vector"), test::mean_of(merge_case, "vector")), 1e-15 + epsilon) << dtype;
  }
}

TEST(TsvM, AddsOrthogonalChangesOfLowRankWithoutLoss) {
  MergeCase merge_case;
  merge_case.parameter("p", {9, 6});
  merge_case.draw({"a", "b", "c"});
  const Spectrum basis = spectrum_of(merge_case.random.normal({9, 6}));
  at::Tensor sum = merge_case.base["p"].clone();
  for (int64_t m = 0; m < 3; ++m) {  // of rank 2 = 6 / 3
    const at::Tensor values = at::tensor({1.0 + static_cast<double>(m), 0.3}, at::kDouble);
    const at::Tensor change =
        Spectrum{basis.left.narrow(1, 2 * m, 2), values, basis.right.narrow(0, 2 * m, 2)}.product();
    merge_case.experts[static_cast<size_t>(m)]["p"] = merge_case.base["p"] + change;
    sum += change;
  }
  merge_case.build();
  EXPECT_LE(difference(merge_case.merge("tsv_m").merged.at("p"), sum), 1e-13);
  const auto half = merge_case.merge("{method: tsv_m, scale: 0.5}").merged.at("p");
  EXPECT_LE(difference(half, (sum + merge_case.base["p"]) / 2), 1e-13);
}

TEST(TsvM, AddsOrthogonalChangesOfARankBelowTheirShare) {
  MergeCase merge_case;
  merge_case.parameter("p", {9, 6});
  merge_case.draw({"a", "b", "c"});
  const Spectrum basis = spectrum_of(merge_case.random.normal({9, 6}));
  merge_case.base["p"].zero_();
  at::Tensor sum = merge_case.base["p"].clone();
  for (int64_t m = 0; m < 3; ++m) {  // of rank 1, with places for 2
    const at::Tensor change = (1.0 + static_cast<double>(m)) * basis.left.select(1, m).outer(basis.right[m]);
    merge_case.experts[static_cast<size_t>(m)]["p"] = change;
    sum += change;
  }
  merge_case.build();
  EXPECT_LE(difference(merge_case.merge("tsv_m").merged.at("p"), sum), 1e-13);
}

TEST(TsvM, AddsDirectionsOfRoundedExpertsWithoutLoss) {
  MergeCase merge_case;
  const at::Tensor sum = test::one_direction_each(merge_case, {"a", "b", "c"}).second;
  merge_case.build();
  const at::Tensor merged = merge_case.merge("tsv_m").merged.at("p");
  EXPECT_LE(difference(merged, merge_case.base["p"] + sum), 1e-5);
}

TEST(TsvM, HearsNothingOfAnExpertThatDidNotChange) {
  MergeCase merge_case;
  merge_case.parameter("p", {8, 6});
  merge_case.draw({"a", "b"});
  merge_case.experts[1] = merge_case.base;
  merge_case.build();
  const at::Tensor leading = spectrum_of(weighted_change(merge_case, 0, "p")).leading(3).product();
  EXPECT_LE(difference(merge_case.merge("tsv_m").merged.at("p"), merge_case.base["p"] + leading), 1e-13);
}

TEST(TsvM, KeepsTheBaseWhereNothingChanged) {
  MergeCase merge_case;
  merge_case.parameter("p", {5, 3});
  merge_case.draw({"a", "b"});
  for (auto& expert : merge_case.experts) expert = merge_case.base;
  merge_case.build();
  EXPECT_TRUE(at::equal(merge_case.merge("tsv_m").merged.at("p"), merge_case.base["p"]));
}

TEST(TsvM, OfOneExpertIsThatExpert) {
  MergeCase merge_case;
  test::spectral_case(merge_case, {"a"});
  merge_case.build();
  const auto merged = merge_case.merge("tsv_m").merged;
  for (const auto& [name, tensor] : merge_case.experts[0])
    EXPECT_LE(difference(merged.at(name), tensor), 1e-13) << name;
}

TEST(TsvM, OfCopiesIsTheirLeadingPartOnce) {
  MergeCase merge_case;
  merge_case.parameter("p", {8, 6});
  merge_case.draw({"a", "b", "c"});
  for (auto& expert : merge_case.experts) expert = merge_case.experts[0];
  merge_case.build();
  const at::Tensor leading = spectrum_of(weighted_change(merge_case, 0, "p")).leading(2).product();
  EXPECT_LE(difference(merge_case.merge("tsv_m").merged.at("p"), merge_case.base["p"] + leading), 1e-13);
}

TEST(TsvM, KeepsOneTripletOfEachOfManyTasks) {
  MergeCase merge_case;
  merge_case.parameter("p", {5, 2});
  merge_case.draw({"a", "b", "c"});
  merge_case.build();
  EXPECT_LE(difference(merge_case.merge("tsv_m").merged.at("p"), reference(merge_case, "p", 1)), 1e-11);
}

TEST(TsvM, LeavesOutExpertsOfWeightZero) {
  MergeCase merge_case, pair;
  test::spectral_case(merge_case, {"a", "b", "c"});
  test::spectral_case(pair, {"a", "b", "c"});
  merge_case.weights = {1.0, 0.0, 1.0};
  merge_case.build();
  pair.build();
  pair.input.experts.erase(pair.input.experts.begin() + 1);
  const auto merged = merge_case.merge("tsv_m").merged;
  for (const auto& [name, tensor] : pair.merge("tsv_m").merged) EXPECT_TRUE(at::equal(merged.at(name), tensor)) << name;
}

}  // namespace
}  // namespace amalgam
