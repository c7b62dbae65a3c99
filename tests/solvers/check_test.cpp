#include "solvers/check.h"

#include <gmock/gmock.h>

#include "core/error.h"
#include "solvers/merge_case.h"

namespace amalgam {
namespace {

using test::MergeCase;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const InputError& error) {
    return error.what();
  }
  return "no error";
}

TEST(CheckExperts, ListsTheFirstFiveDifferences) {
  MergeCase merge_case;
  for (int i = 0; i < 8; ++i) merge_case.parameter("p" + std::to_string(i), {2, 3});
  merge_case.draw({"left", "right"});
  merge_case.experts[1]["p0"] = at::zeros({3, 2}, at::kDouble);
  merge_case.experts[1]["p1"] = at::zeros({2, 3}, at::kHalf);
  for (int i = 2; i < 7; ++i) merge_case.experts[1].erase("p" + std::to_string(i));
  const MergeInput& input = merge_case.build();
  EXPECT_THAT(message_of([&] { check_experts(input); }),
              AllOf(HasSubstr("p0: float64 [2, 3] in expert 'left', float64 [3, 2] in expert 'right'"),
                    HasSubstr("p1: float64 [2, 3] in expert 'left', float16 [2, 3] in expert 'right'"),
                    HasSubstr("p4: float64 [2, 3] in expert 'left', missing in expert 'right'"), Not(HasSubstr("p5")),
                    HasSubstr("2 more")));
}

TEST(CheckExperts, ComparesWithTheBaseAndFindsWhatAllLack) {
  MergeCase merge_case;
  merge_case.parameter("p", {2});
  merge_case.draw({"left"});
  merge_case.base["p"] = at::zeros({3}, at::kDouble);
  EXPECT_THAT(message_of([&] { check_experts(merge_case.build()); }), HasSubstr("in the base"));
  merge_case.input.base = nullptr;
  EXPECT_EQ(message_of([&] { check_experts(merge_case.input); }), "no error");
  merge_case.input.buffers = {"gone"};
  EXPECT_THAT(message_of([&] { check_experts(merge_case.input); }), HasSubstr("gone: missing"));
}

TEST(CheckStatistics, RefusesStatisticsOfAnotherExpert) {
  MergeCase merge_case;
  merge_case.parameter("p", {2});
  merge_case.draw({"left"});
  const Statistics& statistics = *merge_case.build().experts[0].statistics;
  EXPECT_NO_THROW(check_statistics(statistics, "digest of left", "left"));
  EXPECT_THAT(message_of([&] { check_statistics(statistics, "another", "left"); }),
              AllOf(HasSubstr("'left'"), HasSubstr("digest of left"), HasSubstr("another")));
}

TEST(CheckStatistics, RefusesThoseOfTheBaseThatAreAnotherModelsOrOfNoUse) {
  MergeCase merge_case;
  merge_case.parameter("p", {2});
  merge_case.draw({"base", "left"});
  merge_case.build();
  const Statistics& statistics = *merge_case.input.experts[0].statistics;
  EXPECT_NO_THROW(check_base_statistics(statistics, "digest of base"));
  EXPECT_THAT(message_of([&] { check_base_statistics(statistics, "another"); }),
              AllOf(HasSubstr("base.statistics"), HasSubstr("digest of base"), HasSubstr("another")));
  StatisticsHeader header = statistics.header();
  header.kinds = {StatisticKind::kInputGram};
  EXPECT_NO_THROW(check_base_statistics({header, std::make_shared<MemoryTensors>(NamedTensors{})}, "digest of base"));
  header.kinds = {StatisticKind::kOutputGram};
  const Statistics outputs(header, std::make_shared<MemoryTensors>(NamedTensors{}));
  EXPECT_THAT(message_of([&] { check_base_statistics(outputs, "digest of base"); }),
              AllOf(HasSubstr("'squared_gradient'"), HasSubstr("'input_gram'")));
}

struct Requirements : testing::Test {
  MergeCase merge_case;
  Requirements() {
    merge_case.add(test::linear("fc", 2, 3, true));
    merge_case.draw({"left", "right"});
  }
  std::string message(const std::string& entry) {
    return message_of([&] { check_requirements(*make_method(YAML::Load(entry), "merge"), merge_case.input); });
  }
};

TEST_F(Requirements, SayWhichStatisticWhichTaskAndWhatToDo) {
  merge_case.kinds = {StatisticKind::kInputGram};
  merge_case.build();
  EXPECT_THAT(message("mats"),
              AllOf(HasSubstr("'output_gram'"), HasSubstr("task 'left'"), HasSubstr("statistics.kinds")));
  EXPECT_THAT(message("{method: regmean, weights: gradient}"), HasSubstr("'output_gram'"));
  EXPECT_EQ(message("regmean"), "no error");
  merge_case.input.experts[1].statistics = nullptr;
  EXPECT_THAT(message("regmean"), AllOf(HasSubstr("task 'right' has no statistics"), HasSubstr("amalgam collect")));
  EXPECT_EQ(message("average"), "no error");
}

TEST_F(Requirements, OfAStartAreTheMethodsToo) {
  merge_case.kinds = {StatisticKind::kInputGram, StatisticKind::kOutputGram};
  merge_case.build();
  EXPECT_THAT(message("{method: mats, init: fisher}"), HasSubstr("'squared_gradient'"));
  EXPECT_THAT(message("{method: mats, normalise: fisher}"), HasSubstr("'squared_gradient'"));
  EXPECT_THAT(message("{method: mats, vectors: dense}"), HasSubstr("'gradient_gram'"));
  merge_case.input.base = nullptr;
  EXPECT_THAT(message("mats"), AllOf(HasSubstr("`base.model`"), HasSubstr("`--base`")));
  EXPECT_EQ(message("{method: mats, init: regmean}"), "no error");
}

TEST_F(Requirements, RefuseWeightsThatMakeNoSense) {
  merge_case.weights = {1.0, -1.0};
  merge_case.build();
  for (const char* method : {"average", "fisher", "regmean", "mats"})
    EXPECT_THAT(message(method), AllOf(HasSubstr("'right'"), HasSubstr("-1"))) << method;
  EXPECT_EQ(message("task_arithmetic"), "no error");
  for (auto& expert : merge_case.input.experts) expert.weight = 0.0;
  EXPECT_THAT(message("average"), HasSubstr("positive weight"));
  merge_case.input.experts.clear();
  EXPECT_THAT(message("average"), HasSubstr("no expert"));
}

TEST_F(Requirements, SayHowManyExpertsAreTooFewOrTooMany) {
  merge_case.build();
  EXPECT_EQ(message("slerp"), "no error");
  merge_case.input.experts[1].weight = 0.0;
  EXPECT_THAT(message("slerp"), AllOf(HasSubstr("at least 2"), HasSubstr("only 1 of the tasks has")));
  const ExpertInput first = merge_case.input.experts[0];
  merge_case.input.experts = {first};
  EXPECT_THAT(message("slerp"), AllOf(HasSubstr("at least 2"), HasSubstr("is only 1")));
  merge_case.input.experts = {first, first, first};
  EXPECT_THAT(message("slerp"), AllOf(HasSubstr("at most 2"), HasSubstr("3 tasks")));
}

}  // namespace
}  // namespace amalgam
