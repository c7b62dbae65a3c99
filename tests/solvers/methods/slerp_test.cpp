#include "solvers/methods/slerp.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "solvers/merge_case.h"

namespace amalgam {
namespace {

using test::difference;
using test::kEps32;
using test::kEps64;
using test::MergeCase;

/// The formula, element by element in float64.
std::vector<double> reference(const at::Tensor& a, const at::Tensor& b, double t) {
  const at::Tensor flat_a = a.to(at::kDouble).flatten(), flat_b = b.to(at::kDouble).flatten();
  const auto* x = flat_a.const_data_ptr<double>();
  const auto* y = flat_b.const_data_ptr<double>();
  double xx = 0, yy = 0, xy = 0;
  for (int64_t i = 0; i < flat_a.numel(); ++i) {
    xx += x[i] * x[i];
    yy += y[i] * y[i];
    xy += x[i] * y[i];
  }
  const double angle = std::acos(xy / std::sqrt(xx * yy));
  std::vector<double> result;
  for (int64_t i = 0; i < flat_a.numel(); ++i)
    result.push_back((std::sin((1 - t) * angle) * x[i] + std::sin(t * angle) * y[i]) / std::sin(angle));
  return result;
}

/// Two experts that are far from one another, of odd sizes.
void far_apart(MergeCase& merge_case, at::ScalarType dtype = at::kDouble) {
  merge_case.parameter("p", {7, 5});
  merge_case.parameter("q", {3});
  merge_case.draw({"a", "b"});
  for (const char* name : {"p", "q"})
    merge_case.experts[1][name] = merge_case.random.normal(merge_case.base[name].sizes());
  merge_case.store_as(dtype);
}

TEST(Slerp, GoesAlongTheArcBetweenRightAngles) {
  const at::Tensor a = at::tensor({2.0, 0.0}, at::kDouble), b = at::tensor({0.0, 4.0}, at::kDouble);
  const at::Tensor third = slerp(a, b, 1.0 / 3);  // 30 degrees of 90
  EXPECT_NEAR(third[0].item<double>(), 2 * std::sqrt(0.75), 4 * kEps64);
  EXPECT_NEAR(third[1].item<double>(), 4 * 0.5, 8 * kEps64);
}

TEST(Slerp, MatchesTheFormulaInEveryDtype) {
  const std::vector<std::pair<at::ScalarType, double>> dtypes = {
      {at::kDouble, kEps64}, {at::kFloat, kEps32}, {at::kBFloat16, 0x1p-8}};
  for (const auto& [dtype, epsilon] : dtypes) {
    MergeCase merge_case;
    far_apart(merge_case, dtype);
    merge_case.build();
    for (const double t : {0.2, 0.5}) {
      const auto merged = merge_case.merge(fmt::format("{{method: slerp, t: {}}}", t)).merged;
      for (const char* name : {"p", "q"}) {
        const auto expected = reference(merge_case.experts[0][name], merge_case.experts[1][name], t);
        EXPECT_LE(difference(merged.at(name).flatten(), at::tensor(expected, at::kDouble)), 16 * epsilon)
            << name << " " << t;
      }
    }
  }
}

TEST(Slerp, KeepsTheEndsToTheBit) {
  MergeCase merge_case;
  far_apart(merge_case, at::kFloat);
  merge_case.build();
  EXPECT_TRUE(at::equal(merge_case.merge("{method: slerp, t: 0}").merged.at("p"), merge_case.experts[0]["p"]));
  EXPECT_TRUE(at::equal(merge_case.merge("{method: slerp, t: 1}").merged.at("p"), merge_case.experts[1]["p"]));
}

TEST(Slerp, IsLinearWhereTheTensorsAreNearlyParallel) {
  const at::Tensor a = at::tensor({1.0, 0.0}, at::kDouble);
  const auto at_angle = [](double angle) { return at::tensor({std::cos(angle), std::sin(angle)}, at::kDouble); };
  const double edge = std::acos(0.9995);
  const at::Tensor inside = at_angle(0.99 * edge), outside = at_angle(1.01 * edge);
  EXPECT_LE(difference(slerp(a, inside, 0.5), (a + inside) / 2), 2 * kEps64);
  EXPECT_NEAR(slerp(a, outside, 0.5).norm().item<double>(), 1.0, 4 * kEps64);  // on the arc, not on the chord
  EXPECT_LE(difference(slerp(a, -a, 0.25), a / 2), 2 * kEps64);
}

TEST(Slerp, IsLinearWhereATensorIsZero) {
  const at::Tensor a = at::tensor({1.0, 3.0}, at::kDouble), zero = at::zeros({2}, at::kDouble);
  EXPECT_TRUE(at::equal(slerp(a, zero, 0.25), a * 0.75));
  EXPECT_TRUE(at::equal(slerp(zero, zero, 0.25), zero));
}

TEST(Slerp, LetsTaskWeightsShiftT) {
  MergeCase merge_case;
  far_apart(merge_case);
  merge_case.weights = {1.0, 3.0};
  merge_case.build();
  const auto merged = merge_case.merge("slerp").merged.at("p");
  const auto expected = reference(merge_case.experts[0]["p"], merge_case.experts[1]["p"], 0.75);
  EXPECT_LE(difference(merged.flatten(), at::tensor(expected, at::kDouble)), 16 * kEps64);
  EXPECT_TRUE(at::equal(merge_case.merge("{method: slerp, t: 1}").merged.at("p"), merge_case.experts[1]["p"]));
}

TEST(Slerp, WeighsBuffersByTheSameShares) {
  MergeCase merge_case;
  merge_case.parameter("p", {4});
  merge_case.draw({"a", "b", "c"});
  for (size_t m = 0; m < 3; ++m) merge_case.experts[m]["mean"] = at::full({2}, static_cast<double>(m));
  merge_case.base["mean"] = at::zeros({2});
  merge_case.weights = {1.0, 0.0, 3.0};
  merge_case.build().buffers = {"mean"};
  const auto mean = [&](const char* entry) { return merge_case.merge(entry).merged.at("mean")[0].item<double>(); };
  EXPECT_EQ(mean("slerp"), 1.5);
  EXPECT_EQ(mean("{method: slerp, t: 0}"), 0.0);
  EXPECT_EQ(mean("{method: dare, drop: 0, inner: {method: slerp, t: 1}}"), 2.0);
}

TEST(Slerp, TakesTheTwoExpertsThatHaveWeight) {
  MergeCase merge_case;
  merge_case.parameter("p", {4});
  merge_case.draw({"a", "b", "c"});
  merge_case.weights = {1.0, 0.0, 1.0};
  merge_case.build();
  EXPECT_TRUE(at::equal(merge_case.merge("{method: slerp, t: 1}").merged.at("p"), merge_case.experts[2]["p"]));
}

}  // namespace
}  // namespace amalgam
