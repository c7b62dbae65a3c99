#include "solvers/methods/iso_cts.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "solvers/linear/spectrum.h"
#include "solvers/methods/spectral_case.h"

namespace amalgam {
namespace {

using test::difference;
using test::MergeCase;
using test::NaiveSpectrum;
using test::weighted_change;

/// The paper's steps with c common triplets and t a task, by eigendecompositions.
at::Tensor reference(const MergeCase& merge_case, const std::string& name, int64_t c, int64_t t) {
  at::Tensor sum = at::zeros_like(weighted_change(merge_case, 0, name));
  for (size_t m = 0; m < merge_case.experts.size(); ++m) sum += weighted_change(merge_case, m, name);
  const NaiveSpectrum common(sum);
  const at::Tensor u_c = common.u.narrow(1, 0, c);
  std::vector<at::Tensor> u{u_c}, v{common.v.narrow(1, 0, c)}, s{common.s.narrow(0, 0, c)};
  for (size_t m = 0; m < merge_case.experts.size() && t > 0; ++m) {
    const at::Tensor change = weighted_change(merge_case, m, name);
    const NaiveSpectrum own(change - u_c.mm(u_c.t().mm(change)));
    u.push_back(own.u.narrow(1, 0, t));
    v.push_back(own.v.narrow(1, 0, t));
    s.push_back(own.s.narrow(0, 0, t));
  }
  const at::Tensor merged = test::naive_polar(at::cat(u, 1)).mm(test::naive_polar(at::cat(v, 1)).t());
  return merge_case.base.at(name).to(at::kDouble) + merged * at::cat(s).mean();
}

TEST(IsoCts, MatchesTheFormulaInEveryDtype) {
  for (const auto& [dtype, epsilon] : test::kStoredDtypes) {
    MergeCase merge_case;
    merge_case.parameter("tall", {17, 10});
    merge_case.parameter("wide", {11, 15});
    merge_case.parameter("small", {8, 3});
    merge_case.draw({"a", "b"});
    merge_case.store_as(dtype);
    merge_case.weights = {1.0, 1.5};
    merge_case.build();
    const auto merged = merge_case.merge("iso_cts").merged;
    EXPECT_LE(difference(merged.at("tall"), reference(merge_case, "tall", 8, 1)), 1e-11 + 2 * epsilon) << dtype;
    EXPECT_LE(difference(merged.at("wide"), reference(merge_case, "wide", 7, 2)), 1e-11 + 2 * epsilon) << dtype;
    EXPECT_LE(difference(merged.at("small"), reference(merge_case, "small", 3, 0)), 1e-11 + 2 * epsilon) << dtype;
    const auto half = merge_case.merge("{method: iso_cts, common_fraction: 0.5}").merged.at("tall");
    EXPECT_LE(difference(half, reference(merge_case, "tall", 6, 2)), 1e-11 + 2 * epsilon) << dtype;
  }
}

TEST(IsoCts, SharesTheDirectionsOut) {
  const auto expect = [](int64_t n, int64_t experts, double fraction, int64_t common, int64_t own) {
    const SpaceShares shares = space_shares(n, experts, fraction);
    EXPECT_EQ(shares.common, common) << n << " " << experts;
    EXPECT_EQ(shares.own, own) << n << " " << experts;
  };
  expect(768, 8, 0.8, 616, 19);  // 154/8 = 19.25
  expect(10, 4, 0.8, 10, 0);     // 2/4: halves go to the even number
  expect(30, 4, 0.8, 22, 2);     // 6/4
  expect(1, 1, 0.8, 0, 1);
  expect(1, 3, 0.8, 1, 0);
  expect(5, 3, 0.0, 2, 1);  // 5/3 would be 2 a task, 6 in all
  expect(6, 3, 1.0, 6, 0);
}

TEST(IsoCts, IsIsoCWhereTheTasksHaveNothingOfTheirOwn) {
  MergeCase merge_case;
  test::spectral_case(merge_case, {"a", "b", "c"});
  merge_case.build();
  const auto merged =
      merge_case.merge("{method: iso_cts, common_fraction: 1, scale: 0.4, convolutions: matrix}").merged;
  const auto iso_c = merge_case.merge("{method: iso_c, scale: 0.4, convolutions: matrix}").merged;
  for (const auto& [name, tensor] : iso_c) EXPECT_LE(difference(merged.at(name), tensor), 1e-13) << name;
}

TEST(IsoCts, AveragesWhatIsNoMatrix) {
  MergeCase merge_case;
  test::spectral_case(merge_case, {"a", "b"});
  merge_case.build();
  EXPECT_LE(difference(merge_case.merge("iso_cts").merged.at("vector"), test::mean_of(merge_case, "vector")), 1e-15);
}

TEST(IsoCts, AddsNothingInDirectionsThatNoExpertChanged) {
  MergeCase merge_case;
  merge_case.parameter("p", {10, 10});
  merge_case.draw({"a", "b"});
  const Spectrum basis = spectrum_of(merge_case.random.normal({10, 10}));
  merge_case.base["p"].zero_();
  at::Tensor directions = at::zeros({10, 10}, at::kDouble);
  for (int64_t m = 0; m < 2; ++m) {  // each of rank 1: two of the eight common directions are there, and no rests
    const at::Tensor direction = basis.left.select(1, m).outer(basis.right[m]);
    merge_case.experts[static_cast<size_t>(m)]["p"] = (1.0 + static_cast<double>(m)) * direction;
    directions += direction;
  }
  merge_case.build();
  EXPECT_LE(difference(merge_case.merge("iso_cts").merged.at("p"), (1.0 + 2.0) / 10 * directions), 1e-13);
}

TEST(IsoCts, AddsNothingInDirectionsOfRounding) {
  MergeCase merge_case;
  const at::Tensor directions = test::one_direction_each(merge_case, {"a", "b", "c"}).first;
  merge_case.build();
  const at::Tensor merged = merge_case.merge("iso_cts").merged.at("p");
  EXPECT_LE(difference(merged, merge_case.base["p"] + (1.0 + 2.0 + 3.0) / 18 * directions), 1e-5);
}

TEST(IsoCts, KeepsTheBaseWhereNothingChanged) {
  MergeCase merge_case;
  merge_case.parameter("p", {10, 9});
  merge_case.draw({"a", "b"});
  for (auto& expert : merge_case.experts) expert = merge_case.base;
  merge_case.build();
  EXPECT_TRUE(at::equal(merge_case.merge("iso_cts").merged.at("p"), merge_case.base["p"]));
}

TEST(IsoCts, OfCopiesCountsTheirOwnDirectionsOnce) {
  MergeCase merge_case;
  merge_case.parameter("p", {10, 10});
  merge_case.draw({"a", "b"});
  merge_case.experts[1] = merge_case.experts[0];
  merge_case.build();
  const NaiveSpectrum change(weighted_change(merge_case, 0, "p"));
  // Eight common directions of 2 S and one that both tasks have as their own, S, twice: nine in all, of one value.
  const double mean = (2 * change.s.narrow(0, 0, 8).sum() + 2 * change.s[8]).item<double>() / 10;
  const at::Tensor expected = merge_case.base["p"] + mean * change.u.narrow(1, 0, 9).mm(change.v.narrow(1, 0, 9).t());
  EXPECT_LE(difference(merge_case.merge("iso_cts").merged.at("p"), expected), 1e-12);
}

}  // namespace
}  // namespace amalgam
