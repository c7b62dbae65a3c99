#include "solvers/methods/iso_c.h"

#include <gtest/gtest.h>

#include "solvers/linear/spectrum.h"
#include "solvers/methods/spectral_case.h"

namespace amalgam {
namespace {

using test::difference;
using test::kEps64;
using test::MergeCase;
using test::weighted_change;

at::Tensor summed(const MergeCase& merge_case, const std::string& name) {
  at::Tensor sum = weighted_change(merge_case, 0, name);
  for (size_t m = 1; m < merge_case.experts.size(); ++m) sum = sum + weighted_change(merge_case, m, name);
  return sum.flatten(1);
}

/// θ0 + scale · mean(S) · polar factor of the sum.
at::Tensor reference(const MergeCase& merge_case, const std::string& name, double scale) {
  const at::Tensor sum = summed(merge_case, name), base = merge_case.base.at(name).to(at::kDouble);
  const at::Tensor change = test::naive_polar(sum) * test::NaiveSpectrum(sum).s.mean();
  return base + scale * change.view_as(base);
}

TEST(IsoC, MatchesTheFormulaInEveryDtype) {
  for (const auto& [dtype, epsilon] : test::kStoredDtypes) {
    MergeCase merge_case;
    test::spectral_case(merge_case, {"a", "b", "c"});
    merge_case.store_as(dtype);
    merge_case.weights = {1.0, 2.0, 0.5};
    merge_case.build();
    const auto merged = merge_case.merge("{method: iso_c, scale: 0.7}").merged;
    for (const char* name : {"tall", "wide", "column"})
      EXPECT_LE(difference(merged.at(name), reference(merge_case, name, 0.7)), 1e-12 + 2 * epsilon) << name << dtype;
  }
}

TEST(IsoC, TakesKernelsAsMatricesOnRequest) {
  MergeCase merge_case;
  test::spectral_case(merge_case, {"a", "b"});
  merge_case.build();
  const auto merged = merge_case.merge("{method: iso_c, convolutions: matrix}").merged.at("kernel");
  EXPECT_LE(difference(merged, reference(merge_case, "kernel", 1.0)), 1e-12);
}

TEST(IsoC, KeepsASumThatIsIsotropicAlready) {
  MergeCase merge_case;
  merge_case.parameter("p", {6, 4});
  merge_case.draw({"a", "b"});
  const at::Tensor isotropic = 0.3 * spectrum_of(merge_case.random.normal({6, 4})).polar();
  merge_case.experts[1]["p"] = 2 * merge_case.base["p"] + isotropic - merge_case.experts[0]["p"];
  merge_case.build();
  EXPECT_LE(difference(merge_case.merge("iso_c").merged.at("p"), merge_case.base["p"] + isotropic), 64 * kEps64);
}

TEST(IsoC, OfCopiesGoesAsFarAsTheirSum) {
  MergeCase one, three;
  for (MergeCase* merge_case : {&one, &three}) {
    merge_case->parameter("p", {5, 3});
    merge_case->draw({"a", "b", "c"});
    for (auto& expert : merge_case->experts) expert = merge_case->experts[0];
  }
  one.weights = {1.0, 0.0, 0.0};
  one.build();
  three.build();
  const at::Tensor change = one.merge("iso_c").merged.at("p") - one.base["p"];
  EXPECT_LE(difference(three.merge("iso_c").merged.at("p"), one.base["p"] + 3 * change), 64 * kEps64);
}

TEST(IsoC, KeepsTheBaseWhereNothingChanged) {
  MergeCase merge_case;
  merge_case.parameter("p", {5, 3});
  merge_case.draw({"a", "b"});
  for (auto& expert : merge_case.experts) expert = merge_case.base;
  merge_case.build();
  EXPECT_TRUE(at::equal(merge_case.merge("iso_c").merged.at("p"), merge_case.base["p"]));
}

TEST(IsoC, AddsNothingInDirectionsThatNoExpertChanged) {
  MergeCase merge_case;
  merge_case.parameter("p", {5, 4});
  merge_case.draw({"a", "b"});
  for (auto& expert : merge_case.experts) expert["p"].select(1, 2).copy_(merge_case.base["p"].select(1, 2));
  merge_case.build();
  const auto merged = merge_case.merge("iso_c").merged.at("p");
  EXPECT_LE(difference(merged.select(1, 2), merge_case.base["p"].select(1, 2)), 8 * kEps64);
}

TEST(IsoC, AddsNothingInDirectionsOfRounding) {
  MergeCase merge_case;
  const at::Tensor directions = test::one_direction_each(merge_case, {"a", "b", "c"}).first;
  merge_case.build();
  const at::Tensor merged = merge_case.merge("iso_c").merged.at("p");
  EXPECT_LE(difference(merged, merge_case.base["p"] + (1.0 + 2.0 + 3.0) / 18 * directions), 1e-5);
}

}  // namespace
}  // namespace amalgam
