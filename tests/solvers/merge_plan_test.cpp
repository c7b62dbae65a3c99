#include "solvers/merge_plan.h"

#include <gtest/gtest.h>

#include "solvers/merge_case.h"

namespace amalgam {
namespace {

using test::MergeCase;

/// Two linear layers of one shape, a larger one, and a parameter without a layer.
class MergePlanTest : public testing::Test {
 protected:
  void SetUp() override {
    case_.add(test::linear("a", 5, 7, true));
    case_.add(test::linear("b", 5, 7, true));
    case_.add(test::linear("c", 11, 13, true));
    case_.parameter("token", {3});
    case_.draw({"x", "y"});
    case_.build();
  }

  MergePlan plan(const std::vector<std::string>& entries) {
    for (const std::string& entry : entries)
      pointers_.push_back(methods_.emplace_back(make_method(YAML::Load(entry), "merge")).get());
    for (MergeMethod* method : pointers_) method->plan(case_.input);
    return MergePlan(pointers_, case_.input);
  }

  MergeCase case_;
  std::vector<std::unique_ptr<MergeMethod>> methods_;
  std::vector<MergeMethod*> pointers_;
};

TEST_F(MergePlanTest, JoinsTheVariantsOfEqualGroups) {
  const MergePlan planned = plan({"{method: regmean, off_diagonal: 0.5}", "{method: regmean, except: [\"c.*\"]}"});
  ASSERT_EQ(planned.work().size(), 2u);  // a with b, c
  for (const GroupWork& work : planned.work()) {
    const bool both = work.group->layers.size() == 2;
    EXPECT_EQ(work.group->layers.front().layer().name, both ? "a" : "c");
    EXPECT_EQ(work.variants, both ? (std::vector<size_t>{0, 1}) : std::vector<size_t>{0});
  }
}

TEST_F(MergePlanTest, CountsWhatVariantsLeaveAside) {
  const MergePlan planned = plan({"regmean", "{method: regmean, except: [\"c.*\"]}"});
  ASSERT_EQ(planned.averaged().size(), 3u);
  EXPECT_EQ(planned.averaged().at("token").variants, (std::vector<size_t>{0, 1}));
  EXPECT_EQ(planned.averaged().at("token").whole, 2);
  EXPECT_EQ(planned.averaged().at("c.weight").variants, std::vector<size_t>{1});
  EXPECT_EQ(planned.averaged().at("c.bias").whole, 1);
  EXPECT_EQ(planned.fallbacks(0).size(), 1u);
  EXPECT_EQ(planned.fallbacks(1).size(), 3u);
}

TEST_F(MergePlanTest, GivesTheMostCostlyGroupToTheProcessWithTheLeastToDo) {
  MergePlan planned = plan({"regmean"});
  for (const GroupWork& work : planned.work()) EXPECT_EQ(work.process, 0);
  planned.share(2);  // the first has the averages to do
  for (const GroupWork& work : planned.work()) EXPECT_EQ(work.process, work.group->layers.size() == 1 ? 1 : 0);
}

}  // namespace
}  // namespace amalgam
