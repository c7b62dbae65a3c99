#include "solvers/grouping.h"

#include <gmock/gmock.h>

#include "solvers/merge_case.h"

namespace amalgam {
namespace {

using test::MergeCase;
using testing::HasSubstr;

Grouping group(MergeCase& merge_case, const std::string& entry) {
  return form_groups(*make_method(YAML::Load(entry), "merge"), merge_case.input);
}

std::vector<std::string> names(const MergeGroup& group) {
  std::vector<std::string> result;
  for (const LayerMatrix& layer : group.layers) result.push_back(layer.layer().name);
  return result;
}

std::map<std::string, std::string> reasons(const Grouping& grouping) {
  std::map<std::string, std::string> result;
  for (const Fallback& fallback : grouping.fallbacks) result[fallback.parameter] = fallback.why;
  return result;
}

TEST(Grouping, PutsLayersOfOneMatrixShapeTogether) {
  MergeCase merge_case;
  merge_case.add(test::linear("a", 4, 8, true));
  merge_case.add(test::linear("b", 4, 6, true));
  merge_case.add(test::convolution("c", 8, 2, 2, 2, true));  // two groups of [4, 8 + 1]
  merge_case.add(test::linear("d", 4, 9, false));            // [4, 9] too
  merge_case.draw({"x", "y"});
  merge_case.build();
  const Grouping grouping = group(merge_case, "mats");
  ASSERT_EQ(grouping.groups.size(), 2);
  EXPECT_EQ(names(grouping.groups[0]), (std::vector<std::string>{"b"}));
  EXPECT_EQ(names(grouping.groups[1]), (std::vector<std::string>{"a", "c", "d"}));
  EXPECT_TRUE(grouping.fallbacks.empty());
}

TEST(Grouping, KeepsBlocksTogetherAndInOrder) {
  MergeCase merge_case;
  merge_case.add(test::linear("stem", 4, 8, true));
  merge_case.add(test::linear("body.7.a", 4, 6, true));
  merge_case.add(test::linear("body.2.a", 4, 6, true));
  merge_case.add(test::linear("body.7.b", 4, 8, true));
  merge_case.draw({"x", "y"});
  merge_case.build();
  merge_case.input.group_bytes = 1;  // a block is not cut
  const Grouping grouping = group(merge_case, "regmean++");
  ASSERT_EQ(grouping.groups.size(), 3);
  EXPECT_EQ(names(grouping.groups[0]), (std::vector<std::string>{"stem"}));
  EXPECT_EQ(names(grouping.groups[1]), (std::vector<std::string>{"body.7.a", "body.7.b"}));
  EXPECT_EQ(names(grouping.groups[2]), (std::vector<std::string>{"body.2.a"}));
  EXPECT_EQ(grouping.groups[1].block, "body.7.");
}

TEST(Grouping, KeepsAGroupBelowTheSizeLimit) {
  MergeCase merge_case;
  for (const char* name : {"a", "b", "c"}) merge_case.add(test::linear(name, 4, 8, false));
  merge_case.draw({"x", "y"});
  merge_case.build();
  const int64_t one = (2 * (4 * 4 + 8 * 8) + 10 * 4 * 8) * 8;
  merge_case.input.group_bytes = 2 * one;
  EXPECT_EQ(group(merge_case, "regmean").groups.size(), 2);
  merge_case.input.group_bytes = 1;
  EXPECT_EQ(group(merge_case, "regmean").groups.size(), 3);
}

TEST(Grouping, CutsLargeModelsToGroupsThatProcessesCanShare) {
  const auto groups_of = [](int64_t layers, int64_t width) {
    MergeCase merge_case;
    for (int64_t i = 0; i < layers; ++i) merge_case.add(test::linear(fmt::format("fc{}", i), width, width, false));
    MergeInput& input = merge_case.input;
    NamedTensors weights;  // of one element each in memory: only sizes count here
    for (const Layer& layer : merge_case.layers.layers)
      weights[layer.weight] = at::zeros({1, 1}, at::kHalf).expand({width, width});
    const MemoryTensors tensors(weights);
    const Statistics none({}, std::make_shared<MemoryTensors>(NamedTensors{}));
    input.experts = {{"x", 1.0, &tensors, &none}, {"y", 1.0, &tensors, &none}};
    input.parameters = merge_case.parameters;
    input.layers = merge_case.layers;
    class AnyLayer final : public MergeMethod {
     public:
      MethodRequirements requirements() const override { return {.layers = true}; }
      GroupResult merge_group(const MergeInput&, const MergeGroup&, const Checkpoint&) override { return {}; }
    } method;
    return form_groups(method, input).groups.size();
  };
  // A layer takes 14 · width² · 8 bytes: 64 layers of 768 columns 4.2 GB, a 32nd of it 132 MB, two layers.
  EXPECT_EQ(groups_of(64, 768), 32);
  // 64 layers of 32 columns take 7 MB: one group, since it is small.
  EXPECT_EQ(groups_of(64, 32), 1);
}

TEST(Grouping, SaysWhyAParameterFallsBack) {
  MergeCase merge_case;
  merge_case.add(test::linear("a", 4, 8, true));
  merge_case.add(test::linear("b", 4, 8, true));
  merge_case.add(test::linear("c", 4, 8, true));
  Layer norm = test::linear("norm", 8, 1, true);
  norm.kind = LayerKind::kLayerNorm;
  merge_case.add(norm);
  merge_case.parameter("token", {8});
  merge_case.draw({"x", "y"});
  merge_case.left_out = {"b/output_gram"};
  merge_case.build();
  const Grouping grouping = group(merge_case, "{method: mats, except: ['c.weight', 'a.bias']}");
  ASSERT_EQ(grouping.groups.size(), 1);
  ASSERT_EQ(names(grouping.groups[0]), (std::vector<std::string>{"a"}));
  EXPECT_FALSE(grouping.groups[0].layers[0].with_bias());
  const auto why = reasons(grouping);
  EXPECT_EQ(why.size(), 8);
  EXPECT_THAT(why.at("a.bias"), HasSubstr("except"));
  EXPECT_THAT(why.at("b.weight"), HasSubstr("task 'x' has no output gradients of layer 'b'"));
  EXPECT_THAT(why.at("b.bias"), HasSubstr("layer 'b'"));
  EXPECT_THAT(why.at("c.weight"), HasSubstr("except"));
  EXPECT_THAT(why.at("norm.weight"), HasSubstr("layer_norm"));
  EXPECT_THAT(why.at("token"), HasSubstr("no layer"));
}

TEST(Grouping, AveragesAWeightTiedAcrossLayers) {
  MergeCase merge_case;
  merge_case.add(test::linear("head", 4, 8, false));
  Layer embedding = test::linear("embedding", 4, 8, false);
  embedding.kind = LayerKind::kEmbedding;
  embedding.weight = "head.weight";
  embedding.row_end = 0;
  merge_case.layers.layers.push_back(embedding);
  merge_case.draw({"x", "y"});
  merge_case.build();
  const Grouping grouping = group(merge_case, "regmean");
  EXPECT_TRUE(grouping.groups.empty());
  EXPECT_THAT(reasons(grouping).at("head.weight"), testing::AllOf(HasSubstr("'embedding'"), HasSubstr("'head'")));
}

TEST(Grouping, TakesTheSlicesOfAPackedWeightApart) {
  MergeCase merge_case;
  merge_case.parameter("qkv.weight", {10, 8});
  for (const auto& [name, begin, end] : {std::tuple{"qkv[0:6]", 0, 6}, {"qkv[6:8]", 6, 8}}) {
    Layer slice = test::linear(name, end - begin, 8, false);
    slice.weight = "qkv.weight";
    slice.row_begin = begin;
    slice.row_end = end;
    merge_case.layers.layers.push_back(slice);
  }
  merge_case.draw({"x", "y"});
  merge_case.build();
  const Grouping grouping = group(merge_case, "regmean");
  EXPECT_EQ(grouping.groups.size(), 2);
  ASSERT_EQ(grouping.fallbacks.size(), 1);  // the rows [8, 10) are no layer's
  EXPECT_TRUE(grouping.fallbacks[0].rows_only);
}

TEST(Grouping, LeavesOutAPrivateBias) {
  MergeCase merge_case;
  merge_case.add(test::linear("a", 4, 8, true));
  merge_case.draw({"x", "y"});
  merge_case.build().parameters = {"a.weight"};
  const Grouping grouping = group(merge_case, "regmean");
  ASSERT_EQ(grouping.groups.size(), 1);
  EXPECT_FALSE(grouping.groups[0].layers[0].with_bias());
  EXPECT_TRUE(grouping.fallbacks.empty());
}

struct LoneVectors : testing::Test {
  MergeCase merge_case;
  LoneVectors() {
    merge_case.add(test::linear("fc", 4, 8, true));
    Layer norm = test::linear("norm", 8, 1, true);
    norm.kind = LayerKind::kLayerNorm;
    merge_case.layers.layers.push_back(norm);
    merge_case.parameter("norm.weight", {8});
    merge_case.parameter("norm.bias", {8});
    merge_case.parameter("position", {2, 8});
    merge_case.draw({"x", "y"});
    merge_case.draw_gradient_grams(20);
  }
};

TEST_F(LoneVectors, AreMergedByAMethodThatTakesThem) {
  merge_case.build();
  const Grouping grouping = group(merge_case, "{method: mats, vectors: dense}");
  ASSERT_EQ(grouping.groups.size(), 3);
  EXPECT_EQ(names(grouping.groups[0]), (std::vector<std::string>{"fc"}));
  EXPECT_TRUE(grouping.groups[0].layers[0].with_bias());  // it stays in its layer's matrix
  EXPECT_EQ(grouping.groups[1].parameters, (std::vector<std::string>{"norm.weight"}));
  EXPECT_EQ(grouping.groups[2].parameters, (std::vector<std::string>{"norm.bias"}));
  EXPECT_THAT(reasons(grouping), testing::ElementsAre(testing::Pair("position", HasSubstr("no layer"))));
}

TEST_F(LoneVectors, AreAveragedByAMethodThatDoesNot) {
  merge_case.build();
  EXPECT_EQ(group(merge_case, "mats").groups.size(), 1);
  EXPECT_THAT(reasons(group(merge_case, "mats")).at("norm.weight"), HasSubstr("layer_norm"));
}

TEST_F(LoneVectors, FallBackWithAReason) {
  merge_case.build();
  const auto why = reasons(group(merge_case, "{method: mats, vectors: dense, except: ['norm.bias']}"));
  EXPECT_THAT(why.at("norm.bias"), HasSubstr("except"));
  EXPECT_FALSE(why.contains("norm.weight"));
}

TEST_F(LoneVectors, OfABiasAreThoseThatItsLayerLeavesAside) {
  merge_case.left_out = {"fc/output_gram"};
  merge_case.build();
  const Grouping grouping = group(merge_case, "{method: mats, vectors: dense}");
  ASSERT_EQ(grouping.groups.size(), 3);
  EXPECT_EQ(grouping.groups[0].parameters, (std::vector<std::string>{"fc.bias"}));
  EXPECT_THAT(reasons(grouping).at("fc.weight"), HasSubstr("output gradients"));
}

TEST_F(LoneVectors, FallBackWhereATaskLacksTheStatistic) {
  merge_case.gradient_grams[1].erase("norm.weight");
  merge_case.build();
  EXPECT_THAT(reasons(group(merge_case, "{method: mats, vectors: dense}")).at("norm.weight"),
              HasSubstr("task 'y' has no Gram matrix of its gradients"));
}

TEST(Grouping, GivesParameterMethodsEachParameter) {
  MergeCase merge_case;
  merge_case.add(test::linear("a", 4, 8, true));
  merge_case.parameter("p", {3});
  merge_case.draw({"x", "y"});
  merge_case.left_out = {"p/squared_gradient"};
  merge_case.build();
  EXPECT_EQ(group(merge_case, "average").groups.size(), 3);
  const Grouping grouping = group(merge_case, "{method: fisher, apply_to: ['a.weight', p]}");
  ASSERT_EQ(grouping.groups.size(), 1);
  EXPECT_EQ(grouping.groups[0].parameters, (std::vector<std::string>{"a.weight"}));
  EXPECT_THAT(reasons(grouping).at("a.bias"), HasSubstr("apply_to"));
  EXPECT_THAT(reasons(grouping).at("p"), HasSubstr("squared gradient"));
}

}  // namespace
}  // namespace amalgam
