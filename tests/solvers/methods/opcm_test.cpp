#include "solvers/methods/opcm.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cmath>

#include "expect_error.h"
#include "solvers/methods/spectral_case.h"

namespace amalgam {
namespace {

using test::difference;
using test::kEps64;
using test::MergeCase;
using test::weighted_change;

/// One step of the published loop on every parameter, by full square factors and with λ carried along.
struct PublishedLoop {
  const MergeCase& merge_case;
  std::vector<std::string> names;
  double share;
  NamedTensors delta;  // θ − θ0
  double scale = 1.0;

  void add(size_t m, double mean_norm) {
    double square = 0.0;
    for (const std::string& name : names) {
      const at::Tensor change = weighted_change(merge_case, m, name);
      delta[name] = scale * delta.at(name) + (change.dim() == 2 ? projected(delta.at(name), change) : change);
      square += delta[name].square().sum().item<double>();
    }
    scale = std::sqrt(square) / mean_norm;
    for (const std::string& name : names) delta[name] = delta[name] / scale;
  }
  at::Tensor projected(const at::Tensor& kept, const at::Tensor& change) const {
    const auto [u, s, vt] = at::linalg_svd(kept, /*full_matrices=*/true);
    const at::Tensor shares = s.cumsum(0) / s.sum();
    const int64_t r = shares.gt(share).to(at::kInt).argmax().item<int64_t>();
    const at::Tensor inner = u.t().mm(change).mm(vt.t());
    inner.diagonal().zero_();
    inner.narrow(0, 0, r).narrow(1, 0, r).zero_();
    return u.mm(inner).mm(vt);
  }
};

NamedTensors reference(const MergeCase& merge_case, const std::vector<std::string>& names, double share) {
  PublishedLoop loop{merge_case, names, share, {}};
  std::vector<double> norms;
  for (size_t m = 0; m < merge_case.experts.size(); ++m) {
    double square = 0.0, sum = 0.0;
    for (const std::string& name : names) square += weighted_change(merge_case, m, name).square().sum().item<double>();
    norms.push_back(std::sqrt(square));
    for (const double norm : norms) sum += norm;
    if (m == 0) {
      for (const std::string& name : names) loop.delta[name] = weighted_change(merge_case, 0, name);
    } else {
      loop.add(m, sum / static_cast<double>(norms.size()));
    }
  }
  for (const std::string& name : names) loop.delta[name] += merge_case.base.at(name).to(at::kDouble);
  return loop.delta;
}

TEST(Opcm, MatchesThePublishedLoopInEveryDtype) {
  const std::vector<std::string> all = {"tall", "wide", "column", "vector", "kernel"};
  for (const auto& [dtype, epsilon] : test::kStoredDtypes)
    for (const double share : {0.5, 0.2}) {
      MergeCase merge_case;
      test::spectral_case(merge_case, {"a", "b", "c", "d"});
      merge_case.store_as(dtype);
      merge_case.weights = {1.0, 2.0, 0.5, 1.0};
      merge_case.build();
      const auto merged = merge_case.merge(fmt::format("{{method: opcm, share: {}}}", share)).merged;
      const auto expected = reference(merge_case, all, share);
      for (const std::string& name : all)
        EXPECT_LE(difference(merged.at(name), expected.at(name)), 1e-12 + 2 * epsilon) << name << dtype;
    }
}

TEST(Opcm, TakesTheNormOfWhatItMergesOnly) {
  MergeCase merge_case;
  test::spectral_case(merge_case, {"a", "b"});
  merge_case.build();
  const auto merged = merge_case.merge("{method: opcm, except: ['kernel', 'v*']}").merged;
  const auto expected = reference(merge_case, {"tall", "wide", "column"}, 0.5);
  for (const auto& [name, tensor] : expected) EXPECT_LE(difference(merged.at(name), tensor), 1e-13) << name;
  EXPECT_LE(difference(merged.at("vector"), test::mean_of(merge_case, "vector")), 8 * kEps64);
}

TEST(Opcm, OfOneExpertIsThatExpert) {
  MergeCase merge_case;
  test::spectral_case(merge_case, {"a"});
  merge_case.build();
  const auto merged = merge_case.merge("opcm").merged;
  for (const auto& [name, tensor] : merge_case.experts[0]) EXPECT_LE(difference(merged.at(name), tensor), 8 * kEps64);
}

TEST(Opcm, OfCopiesOfMatricesIsThatExpert) {
  MergeCase merge_case;
  merge_case.parameter("p", {6, 4});
  merge_case.draw({"a", "b", "c"});
  for (auto& expert : merge_case.experts) expert = merge_case.experts[0];
  merge_case.build();
  EXPECT_LE(difference(merge_case.merge("opcm").merged.at("p"), merge_case.experts[0]["p"]), 1e-14);
}

TEST(Opcm, KeepsTheBaseWhereNothingChanged) {
  MergeCase merge_case;
  test::spectral_case(merge_case, {"a", "b"});
  for (auto& expert : merge_case.experts) expert = merge_case.base;
  merge_case.build();
  const auto merged = merge_case.merge("opcm").merged;
  for (const auto& [name, tensor] : merge_case.base) EXPECT_TRUE(at::equal(merged.at(name), tensor)) << name;
}

TEST(Opcm, GivesWhatOneMoreExpertGivesOnTheMergeOfTheOthers) {
  MergeCase merge_case;
  test::spectral_case(merge_case, {"a", "b", "c"});
  merge_case.build();
  Opcm whole, part;
  whole.plan(merge_case.input);
  const auto expected = merge_case.merge("opcm").merged;
  const ExpertInput last = merge_case.input.experts.back();
  merge_case.input.experts.pop_back();
  part.plan(merge_case.input);
  const MemoryTensors before(merge_case.merge("opcm").merged);
  NamedTensors merged;
  const ContinualState state = merge_onto(
      *merge_case.input.base, before, part.state(), last, merge_case.parameters, 0.5, at::kCPU, [] {},
      [&](const std::string& name, const at::Tensor& value) { merged[name] = value; });
  for (const auto& [name, tensor] : expected) EXPECT_LE(difference(merged.at(name), tensor), 1e-13) << name;
  EXPECT_NEAR(state.scale, whole.state().scale, 1e-13);
  EXPECT_NEAR(state.mean_norm, whole.state().mean_norm, 1e-13);
  EXPECT_EQ(state.experts, whole.state().experts);
}

TEST(Opcm, GoesByTheRecipesOrderAndLeavesOutWeightZero) {
  MergeCase merge_case;
  test::spectral_case(merge_case, {"a", "b", "c"});
  merge_case.weights = {1.0, 0.0, 1.0};
  merge_case.build();
  const at::Tensor both = merge_case.merge("opcm").merged.at("tall");
  merge_case.input.experts.erase(merge_case.input.experts.begin() + 1);
  EXPECT_TRUE(at::equal(merge_case.merge("opcm").merged.at("tall"), both));
  std::swap(merge_case.input.experts[0], merge_case.input.experts[1]);
  EXPECT_GT(difference(merge_case.merge("opcm").merged.at("tall"), both), 1e-3);
}

TEST(Opcm, RefusesValuesThatAreNotFinite) {
  MergeCase merge_case;
  test::spectral_case(merge_case, {"a", "b"});
  merge_case.experts[1]["wide"][0][0] = NAN;
  merge_case.build();
  EXPECT_THAT(input_error_of([&] { merge_case.merge("opcm"); }),
              testing::AllOf(testing::HasSubstr("'wide'"), testing::HasSubstr("'b'")));
}

}  // namespace
}  // namespace amalgam
