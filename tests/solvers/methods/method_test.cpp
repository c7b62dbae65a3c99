#include "solvers/methods/method.h"

#include <gmock/gmock.h>

#include "core/error.h"
#include "solvers/merge_case.h"

namespace amalgam {
namespace {

using testing::HasSubstr;

/// What someone outside writes: derive, declare, register.
class Largest final : public ParameterMethod {
 public:
  at::Tensor merge_parameter(const MergeInput& input, const std::string& name) override {
    at::Tensor largest;
    for (const ExpertInput& expert : input.experts) {
      const at::Tensor tensor = read_parameter(*expert.tensors, name, input.device) * factor_;
      largest = largest.defined() ? at::maximum(largest, tensor) : tensor;
    }
    return largest;
  }

 protected:
  void declare_options(OptionSet& set) override { set.real("factor", factor_, {0, 10}, "of every value"); }

 private:
  double factor_ = 1.0;
};
const RegisterMethod<Largest> registered("test_largest", "the largest value", "nobody");

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const InputError& error) {
    return error.what();
  }
  return "no error";
}

TEST(MethodRegistry, HoldsTheMethodsByName) {
  EXPECT_THAT(method_names(), testing::IsSupersetOf({"average", "fisher", "mats", "regmean", "task_arithmetic"}));
  EXPECT_EQ(find_method("mats", "merge").name, "mats");
  for (const std::string& name : method_names()) {
    EXPECT_FALSE(find_method(name, "merge").summary.empty());
    EXPECT_FALSE(find_method(name, "merge").source.empty());
  }
}

TEST(MethodRegistry, TakesAMethodFromOutside) {
  test::MergeCase merge_case;
  merge_case.parameter("p", {9});
  merge_case.draw({"a", "b"});
  merge_case.build();
  const at::Tensor expected = at::maximum(merge_case.experts[0]["p"], merge_case.experts[1]["p"]) * 2;
  EXPECT_TRUE(at::equal(merge_case.merge("{method: test_largest, factor: 2}").merged.at("p"), expected));
}

TEST(MethodRegistry, NamesTheNearestMethod) {
  EXPECT_THAT(message_of([] { make_method("regman", {}, "merge[2]"); }),
              testing::AllOf(HasSubstr("merge[2]"), HasSubstr("'regmean'")));
}

TEST(MethodRegistry, RefusesTwoMethodsOfOneName) {
  EXPECT_THROW((RegisterMethod<Largest>("average", "", "")), c10::Error);
}

TEST(MakeMethod, ReadsOptionsAndRefusesUnknownOnes) {
  EXPECT_EQ(make_method(YAML::Load("{method: regmean, ridge: 1e-3}"), "merge")->write_options()["ridge"].as<double>(),
            1e-3);
  EXPECT_THAT(message_of([] { make_method(YAML::Load("{method: regmean, rigde: 1}"), "merge.regmean"); }),
              testing::AllOf(HasSubstr("merge.regmean.rigde"), HasSubstr("ridge")));
  EXPECT_THAT(message_of([] { make_method(YAML::Load("{method: mats, damping: -1}"), "merge.mats"); }),
              HasSubstr("merge.mats.damping"));
  EXPECT_THAT(message_of([] { make_method(YAML::Load("{scale: 1}"), "merge[0]"); }), HasSubstr("`method`"));
}

TEST(MakeMethod, DescribesOptionsWithTheCommonOnesFirst) {
  const auto options = describe_options("task_arithmetic");
  ASSERT_EQ(options.size(), 3);
  EXPECT_EQ(options[0].name, "apply_to");
  EXPECT_EQ(options[1].name, "except");
  EXPECT_EQ(options[2].name, "scale");
  EXPECT_EQ(options[2].default_text, "0.3");
}

TEST(MergeMethod, SelectsByPatterns) {
  const auto method =
      make_method(YAML::Load("{method: average, apply_to: ['body.*'], except: ['*.bias', '*norm*']}"), "merge");
  EXPECT_TRUE(method->selects("body.0.weight"));
  EXPECT_FALSE(method->selects("body.0.bias"));
  EXPECT_FALSE(method->selects("body.norm1.weight"));
  EXPECT_FALSE(method->selects("head.weight"));
  EXPECT_FALSE(method->selects_everything());
  EXPECT_TRUE(make_method("average", {}, "merge")->selects_everything());
}

TEST(ReadParameter, ComputesHalvesInFloat32) {
  const MemoryTensors tensors({{"half", at::ones({2}, at::kHalf)},
                               {"brain", at::ones({2}, at::kBFloat16)},
                               {"double", at::ones({2}, at::kDouble)}});
  EXPECT_EQ(read_parameter(tensors, "half", at::kCPU).scalar_type(), at::kFloat);
  EXPECT_EQ(read_parameter(tensors, "brain", at::kCPU).scalar_type(), at::kFloat);
  EXPECT_EQ(read_parameter(tensors, "double", at::kCPU).scalar_type(), at::kDouble);
}

}  // namespace
}  // namespace amalgam
