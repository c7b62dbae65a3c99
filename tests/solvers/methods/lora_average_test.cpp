#include "solvers/methods/lora_average.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "expect_error.h"
#include "solvers/adapter_case.h"

namespace amalgam {
namespace {

using test::AdapterCase;
using testing::AllOf;
using testing::HasSubstr;

constexpr double kEpsilon = 2.3e-16;

LowRank units(std::initializer_list<double> down, std::initializer_list<double> up) {
  return {at::tensor(down, at::kDouble).view({1, -1}), at::tensor(up, at::kDouble).view({-1, 1})};
}

TEST(LoraAverage, MultipliesTheMeansOfTheFactors) {
  // Means (2, 1) and (1, 3, 0): not the mean of the products, whose first element is (1 + 3) / 2.
  AdapterCase adapter_case({units({1, 2}, {1, 2, 0}), units({3, 0}, {1, 4, 0})});
  const at::Tensor expected = at::tensor({2.0, 1.0, 6.0, 3.0, 0.0, 0.0}, at::kDouble).view({3, 2});
  EXPECT_TRUE(at::allclose(adapter_case.merged_change("lora_average"), expected, 0, 20 * kEpsilon));
}

TEST(LoraAverage, WeighsTheTasks) {
  AdapterCase adapter_case({units({1, 2}, {1, 2, 0}), units({3, 0}, {1, 4, 0})});
  adapter_case.merge_case.weights = {3, 1};
  const at::Tensor expected = at::tensor({1.0, 2.5, 0.0}, at::kDouble).outer(at::tensor({1.5, 1.5}, at::kDouble));
  EXPECT_TRUE(at::allclose(adapter_case.merged_change("lora_average"), expected, 0, 20 * kEpsilon));
}

TEST(LoraAverage, AveragesWhatNoAdapterChanges) {
  AdapterCase adapter_case({units({1, 2}, {1, 2, 0}), units({3, 0}, {1, 4, 0})});
  const auto& experts = adapter_case.merge_case.experts;
  const at::Tensor mean = (experts[0].at("w.bias") + experts[1].at("w.bias")) / 2;
  EXPECT_TRUE(at::allclose(adapter_case.outcome("lora_average").merged.at("w.bias"), mean, 0, 20 * kEpsilon));
}

TEST(LoraAverage, OfOneAdapterIsTheExpert) {
  test::RandomMatrices random(5);
  const LowRank change = test::random_change(random, 4, 3, 2);
  AdapterCase adapter_case({change, change});
  EXPECT_LT((adapter_case.merged_change("lora_average") - change.product()).norm().item<double>(),
            50 * kEpsilon * (adapter_case.base().norm() + change.product().norm()).item<double>());
}

TEST(LoraAverage, RefusesFactorsOfDifferentRanks) {
  test::RandomMatrices random(6);
  AdapterCase adapter_case({test::random_change(random, 4, 3, 2), test::random_change(random, 4, 3, 1)});
  EXPECT_THAT(input_error_of([&] { adapter_case.outcome("lora_average"); }),
              AllOf(HasSubstr("'w.weight'"), HasSubstr("rank 2"), HasSubstr("task1"), HasSubstr("lora_lego")));
}

TEST(LoraAverage, LeavesOutATaskWithoutWeightWhateverItsRank) {
  test::RandomMatrices random(6);
  AdapterCase adapter_case({test::random_change(random, 4, 3, 1), test::random_change(random, 4, 3, 2)});
  adapter_case.merge_case.weights = {0, 1};
  EXPECT_LT((adapter_case.merged_change("lora_average") - adapter_case.changes[1].product()).norm().item<double>(),
            50 * kEpsilon * (adapter_case.base().norm() + adapter_case.changes[1].product().norm()).item<double>());
}

TEST(LoraAverage, RefusesAnExpertThatIsNoAdapter) {
  AdapterCase adapter_case({units({1, 2}, {1, 2, 0}), units({3, 0}, {1, 4, 0})});
  adapter_case.outcome("lora_average");
  adapter_case.merge_case.input.experts[1].adapter = nullptr;
  EXPECT_THAT(input_error_of([&] { adapter_case.outcome("lora_average"); }),
              AllOf(HasSubstr("lora_average"), HasSubstr("task1"), HasSubstr("expert.train.adapter")));
}

TEST(LoraAverage, RefusesAdaptersOfOtherTargets) {
  AdapterCase adapter_case({units({1, 2}, {1, 2, 0}), units({3, 0}, {1, 4, 0})});
  adapter_case.outcome("lora_average");
  const MemoryTensors empty{NamedTensors{}};
  adapter_case.merge_case.input.experts[0].adapter = &empty;
  EXPECT_THAT(input_error_of([&] { adapter_case.outcome("lora_average"); }),
              AllOf(HasSubstr("task1"), HasSubstr("'w.weight'"), HasSubstr("task0")));
}

}  // namespace
}  // namespace amalgam
