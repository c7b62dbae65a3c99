#include "solvers/methods/layer_swap.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "expect_error.h"
#include "solvers/merge_case.h"

namespace amalgam {
namespace {

using test::MergeCase;
using testing::HasSubstr;

/// A model of `blocks` blocks between an embedding and a norm. The outer expert is 1 throughout, the inner 3, a
/// third 9.
struct LayerSwapCase : testing::Test {
  MergeCase merge_case;
  void build(int blocks, const std::vector<double>& weights = {1, 1, 1}) {
    merge_case.parameter("embedding", {3});
    for (int i = 0; i < blocks; ++i) merge_case.parameter(fmt::format("layer.{}.w", i), {2, 2});
    merge_case.parameter("norm", {3});
    merge_case.draw({"outer", "inner", "third"});
    const std::vector<double> values = {1.0, 3.0, 9.0};
    for (size_t m = 0; m < values.size(); ++m)
      for (auto& [name, tensor] : merge_case.experts[m]) tensor.fill_(values[m]);
    merge_case.weights = weights;
    merge_case.build();
  }
  /// The merged values in the model's order.
  std::vector<double> merged(const std::string& options) {
    const auto outcome =
        merge_case.merge(fmt::format("{{method: layer_swap, outer: outer, inner: inner, {}}}", options)).merged;
    std::vector<double> values;
    for (const std::string& name : merge_case.parameters) {
      EXPECT_EQ(outcome.at(name).min().item<double>(), outcome.at(name).max().item<double>());
      values.push_back(outcome.at(name).max().item<double>());
    }
    return values;
  }
  std::string error(const std::string& entry) {
    return input_error_of([&] { merge_case.merge(entry); });
  }
};

TEST_F(LayerSwapCase, TakesTheOuterBlocksFromOneAndTheInnerFromAnother) {
  build(11);
  EXPECT_EQ(merged("bottom: 3, top: 1, transition: 2"), std::vector<double>({1, 1, 1, 1, 2, 2, 3, 3, 3, 2, 2, 1, 1}));
}

TEST_F(LayerSwapCase, HasNoTransitionWhereThereIsNoBorder) {
  build(4);
  EXPECT_EQ(merged("bottom: 0, top: 1, transition: 1"), std::vector<double>({3, 3, 3, 2, 1, 1}));
  EXPECT_EQ(merged("bottom: 0, top: 0, transition: 4"), std::vector<double>({3, 3, 3, 3, 3, 3}));
  EXPECT_EQ(merged("bottom: 2, top: 2, transition: 0"), std::vector<double>({1, 1, 1, 1, 1, 1}));
}

TEST_F(LayerSwapCase, AveragesByTheTwoTasksWeights) {
  build(4, {3, 1, 7});
  EXPECT_EQ(merged("rest: average"), std::vector<double>({1.5, 1, 1.5, 1.5, 1, 1.5}));
}

TEST_F(LayerSwapCase, TakesBuffersWithTheirBlockOrModule) {
  merge_case.parameter("stem.w", {2});
  build(3, {3, 1, 7});
  merge_case.input.base = nullptr;
  const std::vector<double> values = {1.0, 3.0, 9.0};
  std::vector<NamedTensors> experts = merge_case.experts;
  std::vector<std::unique_ptr<MemoryTensors>> sources;
  for (const char* name : {"stem.mean", "layer.0.norm.mean", "layer.1.mean", "layer.2.mean", "scale.mean"}) {
    merge_case.input.buffers.emplace_back(name);
    for (size_t m = 0; m < values.size(); ++m) experts[m][name] = at::full({2}, values[m]);
  }
  for (size_t m = 0; m < values.size(); ++m) {
    sources.push_back(std::make_unique<MemoryTensors>(experts[m]));
    merge_case.input.experts[m].tensors = sources.back().get();
  }
  const auto outcome =
      merge_case.merge("{method: layer_swap, outer: outer, inner: inner, bottom: 1, top: 0, transition: 1}").merged;
  for (const auto& [name, value] : {std::pair{"stem.mean", 1.0},
                                    {"layer.0.norm.mean", 1.0},
                                    {"layer.1.mean", 1.5},
                                    {"layer.2.mean", 3.0},
                                    {"scale.mean", 1.5}})
    EXPECT_EQ(outcome.at(name)[0].item<double>(), value) << name;
}

TEST_F(LayerSwapCase, TakesAStackByItsName) {
  merge_case.parameter("big.0.w", {2});
  merge_case.parameter("big.0.b", {2});
  merge_case.parameter("big.0.c", {2});
  build(2);
  EXPECT_EQ(merged("stack: layer, bottom: 1, top: 0, transition: 0"), std::vector<double>({1, 1, 1, 1, 1, 3, 3}));
}

TEST_F(LayerSwapCase, RefusesWhatTheModelDoesNotHave) {
  build(4);
  EXPECT_THAT(error("{method: layer_swap, outer: outer}"), HasSubstr("`inner`"));
  EXPECT_THAT(error("{method: layer_swap, outer: outer, inner: iner}"), HasSubstr("'inner'"));
  EXPECT_THAT(error("{method: layer_swap, outer: outer, inner: inner, bottom: 2}"), HasSubstr("take 5 blocks"));
  EXPECT_THAT(error("{method: layer_swap, outer: outer, inner: inner, stack: blocks}"), HasSubstr("'blocks.'"));
}

}  // namespace
}  // namespace amalgam
