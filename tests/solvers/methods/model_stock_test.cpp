#include "solvers/methods/model_stock.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "solvers/merge_case.h"

namespace amalgam {
namespace {

using test::difference;
using test::kEps32;
using test::kEps64;
using test::MergeCase;

/// By the formula, pair by pair, in float64.
at::Tensor reference(const MergeCase& merge_case, const std::string& name) {
  const at::Tensor base = merge_case.base.at(name).to(at::kDouble);
  std::vector<at::Tensor> changes;
  at::Tensor mean = at::zeros_like(base);
  double weights = 0.0;
  for (size_t m = 0; m < merge_case.experts.size(); ++m) {
    changes.push_back(merge_case.experts[m].at(name).to(at::kDouble) - base);
    mean += merge_case.weights[m] * changes.back();
    weights += merge_case.weights[m];
  }
  double cosines = 0.0, pairs = 0.0;
  for (size_t i = 0; i < changes.size(); ++i)
    for (size_t j = i + 1; j < changes.size(); ++j) {
      cosines += ((changes[i] * changes[j]).sum() / (changes[i].norm() * changes[j].norm())).item<double>();
      pairs += 1.0;
    }
  const double c = cosines / pairs, count = static_cast<double>(changes.size());
  const double t = std::min(std::max(count * c / (1 + (count - 1) * c), 0.0), 1.0);
  return base + t * mean / weights;
}

/// Experts whose changes share a part, so that their cosines are positive.
void related(MergeCase& merge_case) {
  merge_case.parameter("p", {5, 7});
  merge_case.parameter("q", {3});
  merge_case.draw({"a", "b", "c"});
  for (const char* name : {"p", "q"}) {
    const at::Tensor shared = 0.2 * merge_case.random.normal(merge_case.base[name].sizes());
    for (auto& expert : merge_case.experts) expert[name] += shared;
  }
}

TEST(ModelStock, MatchesTheFormulaInEveryDtype) {
  const std::vector<std::pair<at::ScalarType, double>> dtypes = {
      {at::kDouble, kEps64}, {at::kFloat, kEps32}, {at::kBFloat16, 0x1p-8}};
  for (const auto& [dtype, epsilon] : dtypes) {
    MergeCase merge_case;
    related(merge_case);
    merge_case.store_as(dtype);
    merge_case.weights = {1.0, 2.0, 0.5};
    merge_case.build();
    const auto merged = merge_case.merge("model_stock").merged;
    for (const char* name : {"p", "q"})
      EXPECT_LE(difference(merged.at(name), reference(merge_case, name)), 8 * epsilon) << name << " " << dtype;
  }
}

TEST(ModelStock, TakesHalfWayFromTheBaseAtACosineOfAThird) {
  EXPECT_NEAR(stock_ratio(1.0 / 3, 2), 0.5, 2 * kEps64);
  EXPECT_EQ(stock_ratio(1.0, 7), 1.0);
  EXPECT_EQ(stock_ratio(0.0, 3), 0.0);
  EXPECT_EQ(stock_ratio(-0.5, 3), 0.0);  // the denominator is zero there
  EXPECT_EQ(stock_ratio(-0.4, 3), 0.0);
}

TEST(ModelStock, OfCopiesIsThatExpert) {
  MergeCase merge_case;
  related(merge_case);
  for (auto& expert : merge_case.experts) expert = merge_case.experts[0];
  merge_case.build();
  EXPECT_LE(difference(merge_case.merge("model_stock").merged.at("p"), merge_case.experts[0]["p"]), 8 * kEps64);
}

TEST(ModelStock, OfOrthogonalOrZeroChangesIsTheBase) {
  MergeCase merge_case;
  merge_case.parameter("p", {2});
  merge_case.parameter("q", {2});
  merge_case.draw({"a", "b"});
  merge_case.experts[0]["p"] = merge_case.base["p"] + at::tensor({0.5, 0.0}, at::kDouble);
  merge_case.experts[1]["p"] = merge_case.base["p"] + at::tensor({0.0, 0.25}, at::kDouble);
  for (auto& expert : merge_case.experts) expert["q"] = merge_case.base["q"];
  merge_case.build();
  const auto merged = merge_case.merge("model_stock").merged;
  EXPECT_LE(difference(merged.at("p"), merge_case.base["p"]), 8 * kEps64);
  EXPECT_TRUE(at::equal(merged.at("q"), merge_case.base["q"]));
}

TEST(ModelStock, NeedsABaseAndTwoExperts) {
  MergeCase merge_case;
  related(merge_case);
  merge_case.weights = {1.0, 0.0, 0.0};
  merge_case.build();
  EXPECT_THROW(merge_case.merge("model_stock"), InputError);
  for (auto& expert : merge_case.input.experts) expert.weight = 1.0;
  merge_case.input.base = nullptr;
  EXPECT_THROW(merge_case.merge("model_stock"), InputError);
}

}  // namespace
}  // namespace amalgam
