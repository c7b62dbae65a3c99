#include "solvers/methods/start.h"

#include <gmock/gmock.h>

#include "expect_error.h"
#include "solvers/merge_case.h"

namespace amalgam {
namespace {

using test::MergeCase;

/// Two layers of one shape and a norm, three experts.
class StartTest : public ::testing::Test {
 protected:
  StartTest() {
    for (const char* name : {"one", "two"}) case_.add(test::linear(name, 3, 4, true));
    case_.parameter("norm", {5});
    case_.draw({"a", "b", "c"});
    case_.weights = {1.0, 2.0, 0.0};
    case_.build();
    for (const char* name : {"one", "two"}) layers_.emplace_back(case_.layer(name), true);
  }

  /// [layers, 3, 5]
  at::Tensor matrices(const std::string& entry) {
    Start start(YAML::Load(entry), "init");
    start.plan(case_.input);
    const LayerBatch batch(case_.input, layers_);
    return start.matrices(case_.input, {{}, layers_}, batch, at::kDouble, [] {});
  }
  at::Tensor parameter(const std::string& entry) {
    Start start(YAML::Load(entry), "init");
    start.plan(case_.input);
    return start.parameter(case_.input, "norm", [] {});
  }
  static at::Tensor stacked(const NamedTensors& tensors) {
    return at::stack({MergeCase::matrix(tensors, "one"), MergeCase::matrix(tensors, "two")});
  }

  MergeCase case_;
  std::vector<LayerMatrix> layers_;
};

TEST_F(StartTest, IsWhatItsNameSays) {
  EXPECT_TRUE(at::equal(matrices("zero"), at::zeros({2, 3, 5}, at::kDouble)));
  EXPECT_TRUE(at::equal(matrices("base"), stacked(case_.base)));
  EXPECT_TRUE(at::equal(matrices("'expert:b'"), stacked(case_.experts[1])));
  EXPECT_TRUE(at::equal(parameter("zero"), at::zeros({5}, at::kDouble)));
  EXPECT_TRUE(at::equal(parameter("base"), case_.base.at("norm")));
  EXPECT_TRUE(at::equal(parameter("'expert:b'"), case_.experts[1].at("norm")));
}

TEST_F(StartTest, OfAMethodIsItsMerge) {
  const auto mean = [&](const at::Tensor& a, const at::Tensor& b) { return (a + 2 * b) / 3; };
  const at::Tensor average = mean(stacked(case_.experts[0]), stacked(case_.experts[1]));
  const double close = 8 * test::kEps64;
  EXPECT_LE(test::difference(matrices("average"), average), close);
  const at::Tensor norm = mean(case_.experts[0].at("norm"), case_.experts[1].at("norm"));
  EXPECT_LE(test::difference(parameter("average"), norm), close);
  // Of layers: regmean merges them, and a lone parameter is averaged as it would be.
  EXPECT_GT(test::difference(matrices("regmean"), average), 1e-3);
  EXPECT_LE(test::difference(parameter("regmean"), norm), close);
}

TEST_F(StartTest, AsksForWhatItsMethodNeeds) {
  EXPECT_TRUE(Start(YAML::Load("base"), "init").requirements().base);
  EXPECT_FALSE(Start(YAML::Load("zero"), "init").requirements().base);
  EXPECT_TRUE(Start(YAML::Load("regmean"), "init").requirements().statistics.contains(StatisticKind::kInputGram));
}

TEST_F(StartTest, RefusesWhatIsNone) {
  for (const auto& [entry, part] :
       std::vector<std::pair<const char*, const char*>>{{"zerro", "did you mean 'zero'?"},
                                                        {"{method: average, except: [a]}", "`except`"},
                                                        {"regmean++", "runs the models"}})
    EXPECT_THAT(input_error_of([&] { Start(YAML::Load(entry), "merge.x.init"); }),
                ::testing::AllOf(::testing::HasSubstr("merge.x.init"), ::testing::HasSubstr(part)))
        << entry;
}

}  // namespace
}  // namespace amalgam
