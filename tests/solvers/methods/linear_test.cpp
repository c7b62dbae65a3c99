#include "solvers/methods/linear.h"

#include <gmock/gmock.h>

#include "expect_error.h"
#include "solvers/merge_case.h"

namespace amalgam {
namespace {

using test::difference;
using test::kEps32;
using test::kEps64;
using test::MergeCase;
using testing::HasSubstr;

struct LinearCase : testing::Test {
  MergeCase merge_case;
  LinearCase() {
    merge_case.parameter("body.w", {5, 3});
    merge_case.parameter("head.w", {7});
    merge_case.draw({"left", "right", "third"});
  }
  at::Tensor sum(const std::string& name, const std::vector<double>& weights) const {
    at::Tensor result = at::zeros_like(merge_case.base.at(name), at::kDouble);
    for (size_t m = 0; m < weights.size(); ++m) result += weights[m] * merge_case.experts[m].at(name).to(at::kDouble);
    return result;
  }
  std::string error(const std::string& entry) {
    return input_error_of([&] { merge_case.merge(entry); });
  }
};

TEST_F(LinearCase, TakesTheTasksWeightsWhereNoneAreGiven) {
  merge_case.weights = {1.0, 2.0, 1.0};
  merge_case.build();
  EXPECT_LE(difference(merge_case.merge("linear").merged.at("body.w"), sum("body.w", {0.25, 0.5, 0.25})), 16 * kEps64);
}

TEST_F(LinearCase, TakesWeightsByTaskOrInOrderInTheirPlace) {
  merge_case.weights = {5.0, 5.0, 0.0};
  merge_case.build();
  const auto expected = sum("body.w", {0.6, 0.3, 0.1});
  for (const char* entry :
       {"{method: linear, weights: {third: 1, left: 6, right: 3}}", "{method: linear, weights: [6, 3, 1]}"})
    EXPECT_LE(difference(merge_case.merge(entry).merged.at("body.w"), expected), 16 * kEps64) << entry;
}

TEST_F(LinearCase, AddsUpWhatIsNotNormalised) {
  merge_case.build();
  const auto merged = merge_case.merge("{method: linear, weights: [2, -1, 0], normalise: false}").merged;
  EXPECT_LE(difference(merged.at("head.w"), sum("head.w", {2.0, -1.0, 0.0})), 16 * kEps64);
  EXPECT_TRUE(at::equal(merge_case.merge("{method: linear, weights: [0, 0, 0], normalise: false}").merged.at("head.w"),
                        at::zeros({7}, at::kDouble)));
}

TEST_F(LinearCase, ExtrapolatesWithNegativeWeights) {
  merge_case.build();
  const auto merged = merge_case.merge("{method: linear, weights: [3, -1, 0]}").merged;
  EXPECT_LE(difference(merged.at("head.w"), sum("head.w", {1.5, -0.5, 0.0})), 16 * kEps64);
}

TEST_F(LinearCase, GivesLayersWeightsOfTheirOwn) {
  merge_case.build();
  const auto merged =
      merge_case
          .merge(
              "{method: linear, weights: [1, 1, 0], by_layer: [{pattern: 'head.*', weights: {left: 0, right: 0, "
              "third: 4}}, {pattern: '*.w', weights: [1, 0, 0]}]}")
          .merged;
  EXPECT_TRUE(at::equal(merged.at("head.w"), merge_case.experts[2]["head.w"]));
  EXPECT_TRUE(at::equal(merged.at("body.w"), merge_case.experts[0]["body.w"]));
}

TEST_F(LinearCase, OfCopiesIsThatExpertToTheBit) {
  for (auto& expert : merge_case.experts) expert = merge_case.experts[0];
  merge_case.store_as(at::kFloat);
  merge_case.build();
  EXPECT_TRUE(at::equal(merge_case.merge("{method: linear, weights: [0.3, 0.1, 7]}").merged.at("body.w"),
                        merge_case.experts[0]["body.w"]));
}

TEST_F(LinearCase, ComputesHalvesInFloat32) {
  merge_case.store_as(at::kBFloat16);
  merge_case.build();
  const auto merged = merge_case.merge("{method: linear, weights: [0.2, 0.3, 0.5]}").merged.at("body.w");
  EXPECT_TRUE(at::equal(merged, sum("body.w", {0.2, 0.3, 0.5}).to(at::kFloat).to(at::kBFloat16)) ||
              difference(merged, sum("body.w", {0.2, 0.3, 0.5})) <= 0x1p-9 * 4);
}

TEST_F(LinearCase, WeighsBuffersAsParametersWithoutExtrapolation) {
  for (size_t m = 0; m < 3; ++m) merge_case.experts[m]["body.variance"] = at::full({2}, 1.0 + static_cast<double>(m));
  merge_case.build().buffers = {"body.variance"};
  merge_case.input.base = nullptr;
  const auto variance = [&](const char* entry) {
    return merge_case.merge(entry).merged.at("body.variance")[0].item<double>();
  };
  EXPECT_EQ(variance("{method: linear, weights: [0, 0, 2]}"), 3.0);
  EXPECT_EQ(variance("{method: linear, weights: [3, -1, 1]}"), 1.5);
  EXPECT_EQ(variance("{method: linear, weights: [1, 1, 0], normalise: false}"), 1.5);
}

TEST_F(LinearCase, RefusesWeightsThatDoNotFitTheTasks) {
  merge_case.build();
  EXPECT_THAT(error("{method: linear, weights: {left: 1, righ: 1, third: 1}}"), HasSubstr("'right'"));
  EXPECT_THAT(error("{method: linear, weights: [1, 2]}"), HasSubstr("2 weights"));
  EXPECT_THAT(error("{method: linear, weights: {left: 1}}"), HasSubstr("1 weights"));
  EXPECT_THAT(error("{method: linear, weights: {left: much, right: 1, third: 1}}"), HasSubstr("merge.weights.left"));
  EXPECT_THAT(error("{method: linear, weights: 3}"), HasSubstr("merge.weights"));
  EXPECT_THAT(error("{method: linear, weights: [1, -1, 0]}"), HasSubstr("normalise: false"));
}

TEST_F(LinearCase, RefusesRulesThatDoNothing) {
  merge_case.build();
  EXPECT_THAT(error("{method: linear, by_layer: [{pattern: 'tail.*', weights: [1, 1, 1]}]}"), HasSubstr("'tail.*'"));
  EXPECT_THAT(error("{method: linear, by_layer: [{pattern: 'head.*'}]}"), HasSubstr("by_layer[0]"));
}

}  // namespace
}  // namespace amalgam
