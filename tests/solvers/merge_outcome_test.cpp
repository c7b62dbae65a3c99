#include "solvers/merge_outcome.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "solvers/merge_case.h"

namespace amalgam {
namespace {

using test::MergeCase;

/// A packed weight [5, 3] of which two layers merge four rows, and a parameter p [2]; float32.
class MergeOutcomeTest : public testing::Test {
 protected:
  void SetUp() override {
    case_.parameter("w", {5, 3});
    case_.parameter("p", {2});
    for (const auto& [name, begin, end] : {std::tuple{"second", 2, 4}, std::tuple{"first", 0, 2}}) {
      Layer slice = test::linear(name, end - begin, 3, false);
      slice.weight = "w";
      slice.row_begin = begin;
      slice.row_end = end;
      case_.layers.layers.push_back(slice);
    }
    case_.draw({"x"});
    for (auto& [name, tensor] : case_.experts[0]) tensor = tensor.to(at::kFloat);
    case_.build();
  }

  MergeGroup group(const char* layer) const { return {{}, {LayerMatrix(case_.layer(layer), false)}}; }
  static GroupResult result(const char* layer, double value) {
    LayerReport report;
    report.layer = layer;
    return {{}, {at::full({1, 2, 3}, value, at::kDouble)}, {report}};
  }

  MergeCase case_;
  std::unique_ptr<MergeMethod> method_ = make_method("regmean", {}, "merge");
};

TEST_F(MergeOutcomeTest, PutsSlicesOverTheAverageAndCountsAParameterOnce) {
  OutcomeBuilder builder(*method_, case_.input);
  builder.store("w", at::zeros({5, 3}));
  EXPECT_EQ(builder.add(group("first"), result("first", 1.0)), 0);  // the average is there already
  EXPECT_EQ(builder.add(group("second"), result("second", 2.0)), 0);
  EXPECT_EQ(builder.add({{"p"}, {}}, {{{"p", at::ones({2}, at::kDouble)}}, {}, {}}), 1);
  const MergeOutcome outcome = builder.finish({{"w", "no layer covers it", true}}, 1.5);
  EXPECT_TRUE(at::equal(outcome.merged.at("w").select(1, 0), at::tensor({1.0F, 1.0F, 2.0F, 2.0F, 0.0F})));
  EXPECT_EQ(outcome.merged.at("p").scalar_type(), at::kFloat);
  EXPECT_EQ(outcome.report.merged_parameters, 2);
  EXPECT_EQ(outcome.report.seconds, 1.5);
  ASSERT_EQ(outcome.report.layers.size(), 2);
  EXPECT_EQ(outcome.report.layers[0].layer, "second");  // the model's order
}

TEST(MergeOutcome, NamesLayersAndLoneParametersInTheModelsOrder) {
  MergeCase merge_case;
  for (const char* name : {"fc1", "fc2"}) merge_case.add(test::linear(name, 2, 3, false));
  merge_case.parameter("norm", {2});
  merge_case.draw({"x"});
  merge_case.build();
  merge_case.input.parameters = {"fc1.weight", "fc2.weight", "norm"};
  const auto method = make_method("mats", {}, "merge");
  OutcomeBuilder builder(*method, merge_case.input);
  const auto report = [](const char* name) {
    LayerReport made;
    made.layer = name;
    return made;
  };
  builder.add({{"norm"}, {}}, {{{"norm", at::ones({2}, at::kDouble)}}, {}, {report("norm")}});
  for (const char* name : {"fc2", "fc1"})
    builder.add({{}, {LayerMatrix(merge_case.layer(name), false)}},
                {{}, {at::zeros({1, 2, 3}, at::kDouble)}, {report(name)}});
  const auto layers = builder.finish({}, 0.0).report.layers;
  ASSERT_EQ(layers.size(), 3);
  EXPECT_EQ(layers[0].layer, "fc1");
  EXPECT_EQ(layers[1].layer, "fc2");
  EXPECT_EQ(layers[2].layer, "norm");
}

TEST(MergedBuffer, IsOfTheExpertsThatCountUnlessItIsLeftOut) {
  MergeCase merge_case;
  merge_case.parameter("p", {2});
  merge_case.draw({"a", "b", "c"});
  for (int64_t m = 0; m < 3; ++m) {
    merge_case.experts[static_cast<size_t>(m)]["mean"] = at::full({2}, static_cast<double>(m));
    merge_case.experts[static_cast<size_t>(m)]["count"] = at::full({}, m, at::kLong);
  }
  merge_case.weights = {-1.0, 3.0, 1.0};
  merge_case.build();
  const auto method = make_method("task_arithmetic", {}, "merge");
  EXPECT_TRUE(at::equal(merged_buffer(*method, merge_case.input, "mean"), at::full({2}, 1.25)));
  EXPECT_EQ(merged_buffer(*method, merge_case.input, "count").item<int64_t>(), 1);
  const auto copy = make_method(YAML::Load("{method: passthrough, expert: c, except: [count]}"), "merge");
  copy->plan(merge_case.input);
  EXPECT_TRUE(at::equal(merged_buffer(*copy, merge_case.input, "mean"), at::full({2}, 2.0)));
  EXPECT_EQ(merged_buffer(*copy, merge_case.input, "count").item<int64_t>(), 0);
}

TEST_F(MergeOutcomeTest, CountsAParameterThatOnlyLayersWriteOnce) {
  OutcomeBuilder builder(*method_, case_.input);
  EXPECT_EQ(builder.add(group("first"), result("first", 1.0)), 1);
  EXPECT_EQ(builder.add(group("second"), result("second", 2.0)), 0);
}

TEST_F(MergeOutcomeTest, RefusesOtherSizesAndResultsThatAreNotWhole) {
  OutcomeBuilder builder(*method_, case_.input);
  EXPECT_THROW(builder.store("p", at::ones({3})), c10::Error);
  EXPECT_THROW(check_result(*method_, group("first"), {}), c10::Error);
  EXPECT_THROW(check_result(*method_, {{"p"}, {}}, {}), c10::Error);
  EXPECT_NO_THROW(check_result(*method_, group("first"), result("first", 1.0)));
}

TEST_F(MergeOutcomeTest, RefusesWhatIsNotFiniteInItsDtype) {
  OutcomeBuilder builder(*method_, case_.input);
  builder.store("p", at::full({2}, 1e300, at::kDouble));
  EXPECT_THROW(builder.finish({}, 0.0), InputError);
}

}  // namespace
}  // namespace amalgam
