#include "solvers/methods/lora_lego.h"

#include <gtest/gtest.h>

#include <cmath>

#include "solvers/adapter_case.h"

namespace amalgam {
namespace {

using test::AdapterCase;
using test::random_change;

constexpr double kEpsilon = 2.3e-16;

void expect_change(AdapterCase& adapter_case, const std::string& entry, const at::Tensor& expected) {
  const double size = (adapter_case.base().norm() + expected.norm()).item<double>();
  EXPECT_LT((adapter_case.merged_change(entry) - expected).norm().item<double>(), 100 * kEpsilon * size);
}

/// The same units in another order: the same product.
LowRank reversed(const LowRank& change) { return {change.down.flip({0}), change.up.flip({1})}; }

TEST(LoraLego, OfOneAdapterInTwoOrdersIsTheExpert) {
  test::RandomMatrices random(1);
  const LowRank change = random_change(random, 5, 4, 3);
  AdapterCase adapter_case({change, reversed(change)});
  expect_change(adapter_case, "lora_lego", change.product());
}

TEST(LoraLego, ScalesTheCentroidToTheMeanNormOfItsMembers) {
  // Units (1, 0 | 3, 0) and (0, 1 | 0, 3): both of norm √10, their centroid (½, ½ | 1½, 1½) of norm √5.
  const auto unit = [](double x, double y) {
    return LowRank{at::tensor({x, y}, at::kDouble).view({1, 2}), at::tensor({3 * x, 3 * y}, at::kDouble).view({2, 1})};
  };
  AdapterCase adapter_case({unit(1, 0), unit(0, 1)});
  expect_change(adapter_case, "lora_lego", at::full({2, 2}, 0.5 * 1.5 * 2, at::kDouble));
}

TEST(LoraLego, OfAsManyClustersAsUnitsIsTheScaledSum) {
  test::RandomMatrices random(2);
  AdapterCase adapter_case({random_change(random, 5, 4, 2), random_change(random, 5, 4, 2)});
  const at::Tensor sum = adapter_case.changes[0].product() + adapter_case.changes[1].product();
  expect_change(adapter_case, "{method: lora_lego, clusters: 4}", std::sqrt(2.0 / 4.0) * sum);
  expect_change(adapter_case, "{method: lora_lego, clusters: 400}", std::sqrt(2.0 / 4.0) * sum);
}

TEST(LoraLego, WeighsUnitsByTheirTasks) {
  test::RandomMatrices random(3);
  AdapterCase adapter_case({random_change(random, 3, 2, 1), random_change(random, 3, 2, 1)});
  adapter_case.merge_case.weights = {3, 1};
  std::vector<at::Tensor> points;
  for (const LowRank& change : adapter_case.changes)
    points.push_back(at::cat({change.down[0], change.up.select(1, 0)}));
  at::Tensor unit = 0.75 * points[0] + 0.25 * points[1];
  unit = unit / unit.norm() * (0.75 * points[0].norm() + 0.25 * points[1].norm());
  expect_change(adapter_case, "lora_lego", unit.slice(0, 2).outer(unit.slice(0, 0, 2)));
}

TEST(LoraLego, LeavesOutATaskWithoutWeight) {
  test::RandomMatrices random(4);
  AdapterCase adapter_case({random_change(random, 3, 2, 2), random_change(random, 3, 2, 2)});
  adapter_case.merge_case.weights = {1, 0};
  expect_change(adapter_case, "lora_lego", adapter_case.changes[0].product());
}

TEST(LoraLego, TakesAdaptersOfDifferentRanks) {
  test::RandomMatrices random(5);
  AdapterCase adapter_case({random_change(random, 5, 4, 1), random_change(random, 5, 4, 3)});
  const at::Tensor sum = adapter_case.changes[0].product() + adapter_case.changes[1].product();
  expect_change(adapter_case, "{method: lora_lego, clusters: 4}", std::sqrt(2.0 / 4.0) * sum);
}

TEST(LoraLego, GivesTheSameTwiceAndByTheSeed) {
  const auto merged = [](uint64_t seed) {
    test::RandomMatrices random(6);
    AdapterCase adapter_case({random_change(random, 5, 4, 4), random_change(random, 5, 4, 4)});
    adapter_case.merge_case.input.seed = seed;
    return adapter_case.merged_change("{method: lora_lego, clusters: 3}");
  };
  EXPECT_TRUE(at::equal(merged(0), merged(0)));
  bool differs = false;
  for (uint64_t seed = 1; seed < 6; ++seed) differs = differs || !at::equal(merged(0), merged(seed));
  EXPECT_TRUE(differs);
}

}  // namespace
}  // namespace amalgam
