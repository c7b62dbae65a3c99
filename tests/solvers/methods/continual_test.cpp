#include "solvers/methods/continual.h"

#include <gmock/gmock.h>

#include <cmath>

#include "expect_error.h"
#include "solvers/linear/spectrum.h"
#include "solvers/merge_case.h"

namespace amalgam {
namespace {

using test::difference;
using test::MergeCase;
using test::RandomMatrices;

/// The paper's formula with full square U and V: N' = U P' Vᵀ, P' = Uᵀ N V without diagonal and leading block.
at::Tensor by_full_factors(const at::Tensor& kept, const at::Tensor& change, double share) {
  const auto [u, s, vt] = at::linalg_svd(kept, /*full_matrices=*/true);
  int64_t r = 0;
  double cumulated = 0.0;
  const double total = s.sum().item<double>();
  while (r < s.size(0) && (cumulated += s[r].item<double>()) <= share * total) ++r;
  const at::Tensor projected = u.t().mm(change).mm(vt.t());
  for (int64_t i = 0; i < projected.size(0); ++i)
    for (int64_t j = 0; j < projected.size(1); ++j)
      if (i == j || (i < r && j < r)) projected[i][j] = 0.0;
  return u.mm(projected).mm(vt);
}

TEST(WithoutOverlap, OfThinFactorsIsThatOfFullOnes) {
  RandomMatrices random(5);
  for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{7, 5}, {5, 7}, {6, 6}, {1, 4}, {9, 1}})
    for (const double share : {0.0, 0.3, 0.5, 0.95}) {
      const at::Tensor kept = random.normal({rows, columns}), change = random.normal({rows, columns});
      EXPECT_LE(difference(without_overlap(kept, change, share), by_full_factors(kept, change, share)), 1e-13)
          << rows << "x" << columns << " " << share;
    }
}

TEST(WithoutOverlap, KeepsWhatIsOrthogonalAndDropsWhatIsTheSame) {
  RandomMatrices random(6);
  const Spectrum basis = spectrum_of(random.normal({6, 6}));
  const auto part = [&](int64_t first, const at::Tensor& values) {
    return Spectrum{basis.left.narrow(1, first, 2), values, basis.right.narrow(0, first, 2)}.product();
  };
  const at::Tensor kept = part(0, at::tensor({2.0, 1.0}, at::kDouble));
  const at::Tensor orthogonal = part(2, at::tensor({3.0, 0.1}, at::kDouble));
  EXPECT_LE(difference(without_overlap(kept, orthogonal, 0.5), orthogonal), 1e-14);
  EXPECT_LE(difference(without_overlap(kept, kept, 0.5), at::zeros_like(kept)), 1e-14);
}

TEST(WithoutOverlap, DoesNotDependOnTheSizeOfWhatIsKept) {
  RandomMatrices random(7);
  const at::Tensor kept = random.normal({5, 4}), change = random.normal({5, 4});
  EXPECT_LE(difference(without_overlap(kept, change, 0.5), without_overlap(1e-3 * kept, change, 0.5)), 1e-13);
}

TEST(WithoutOverlap, TakesNothingWhereNothingIsKept) {
  RandomMatrices random(8);
  const at::Tensor change = random.normal({5, 4});
  EXPECT_TRUE(at::equal(without_overlap(at::zeros({5, 4}, at::kDouble), change, 0.5), change));
}

TEST(AddChange, AddsWhatIsNoMatrixWhole) {
  const at::Tensor sum = at::tensor({1.0, 2.0}, at::kDouble);
  EXPECT_TRUE(at::equal(add_change(sum, sum, 0.5), 2 * sum));
}

TEST(ContinualState, GoesThroughJson) {
  const ContinualState state{1.75, 0.1, 3};
  EXPECT_EQ(continual_state_from_json(to_json(state)), state);
  EXPECT_THAT(input_error_of([] { continual_state_from_json("{\"scale\": 1}"); }), testing::HasSubstr("mean_norm"));
  EXPECT_THAT(input_error_of([] { continual_state_from_json("{\"scale\":-1,\"mean_norm\":1,\"experts\":2}"); }),
              testing::HasSubstr("no sense"));
}

struct OneMore : testing::Test {
  MergeCase merge_case;
  OneMore() {
    merge_case.parameter("w", {5, 4});
    merge_case.parameter("b", {3});
    merge_case.draw({"a", "b", "c"});
    merge_case.weights = {1.0, 2.0, 0.5};
    merge_case.build();
  }
  /// ‖values − θ0‖ over all parameters.
  double distance(const NamedTensors& values) const {
    double square = 0.0;
    for (const auto& [name, value] : values) square += (value - merge_case.base.at(name)).square().sum().item<double>();
    return std::sqrt(square);
  }
  ContinualState merge_one(NamedTensors& merged, const ContinualState& state, size_t m) {
    const MemoryTensors before(merged);
    return merge_onto(
        *merge_case.input.base, before, state, merge_case.input.experts[m], {"b", "w"}, 0.5, at::kCPU, [] {},
        [&](const std::string& name, const at::Tensor& value) { merged[name] = value; });
  }
};

TEST_F(OneMore, GetsTheMeanNormOfTheExperts) {
  NamedTensors merged = merge_case.experts[0];
  const double first = distance(merged), second = 2 * distance(merge_case.experts[1]),
               third = 0.5 * distance(merge_case.experts[2]);
  ContinualState state = merge_one(merged, {1.0, first, 1}, 1);
  EXPECT_EQ(state.experts, 2);
  EXPECT_NEAR(state.mean_norm, (first + second) / 2, 1e-14);
  EXPECT_NEAR(distance(merged), state.mean_norm, 1e-14);
  state = merge_one(merged, state, 2);
  EXPECT_EQ(state.experts, 3);
  EXPECT_NEAR(state.mean_norm, (first + second + third) / 3, 1e-14);
  EXPECT_NEAR(distance(merged), state.mean_norm, 1e-14);
}

TEST_F(OneMore, FollowsTheFormula) {
  NamedTensors merged = merge_case.experts[1];
  ContinualState state{2.0, 0.3, 4};
  const NamedTensors before = merged;
  state = merge_one(merged, state, 2);
  const at::Tensor kept = before.at("w") - merge_case.base["w"],
                   change = 0.5 * (merge_case.experts[2]["w"] - merge_case.base["w"]);
  const at::Tensor expected = merge_case.base["w"] + (2.0 * kept + by_full_factors(kept, change, 0.5)) / state.scale;
  EXPECT_LE(difference(merged.at("w"), expected), 1e-14);
  const at::Tensor vector = merge_case.base["b"] + (2.0 * (before.at("b") - merge_case.base["b"]) +
                                                    0.5 * (merge_case.experts[2]["b"] - merge_case.base["b"])) /
                                                       state.scale;
  EXPECT_LE(difference(merged.at("b"), vector), 1e-14);
}

TEST_F(OneMore, IsRefusedWhereThereIsNothingToMergeOnto) {
  NamedTensors merged = merge_case.base;
  EXPECT_THAT(input_error_of([&] { merge_one(merged, {}, 1); }), testing::HasSubstr("'b'"));
  merge_case.experts[1]["w"][0][0] = NAN;
  EXPECT_THAT(input_error_of([&] { merge_one(merged, {1.0, 1.0, 1}, 1); }), testing::HasSubstr("not finite"));
}

}  // namespace
}  // namespace amalgam
