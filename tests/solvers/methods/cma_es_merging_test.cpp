#include "solvers/methods/cma_es_merging.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/error.h"
#include "expect_error.h"
#include "solvers/interrupting_progress.h"
#include "solvers/probe_case.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

using test::difference;
using test::MergeCase;
using testing::HasSubstr;

/// Scores a model by how near it is to another one: 1 / (1 + ‖θ − θ*‖²), or the distance itself.
class NearnessProbe final : public test::SilentProbe {
 public:
  NearnessProbe(NamedTensors wanted, bool lower_is_better) : wanted_(std::move(wanted)), lower_(lower_is_better) {}

  ProbeScore score(const std::vector<std::string>& tasks, const NamedTensors& replaced,
                   const std::function<void()>& checkpoint) override {
    checkpoint();
    EXPECT_EQ(tasks, (std::vector<std::string>{"a", "b", "c"}));  // whatever their weights
    if (++calls <= without_score) return {std::nan(""), lower_};
    double distance = 0;
    for (const auto& [name, tensor] : wanted_) distance += (replaced.at(name) - tensor).square().sum().item<double>();
    return {lower_ ? distance : 1 / (1 + distance), lower_};
  }

  int64_t calls = 0, without_score = 0;  // of the first calls

 private:
  NamedTensors wanted_;
  bool lower_;
};

/// Three experts of two blocks, and a model between them: of block 0 by `kFirst`, of block 1 by `kSecond`.
class CmaEsMergingCase : public testing::Test {
 protected:
  CmaEsMergingCase() {
    merge_case_.parameter("net.0.weight", {6, 4});
    merge_case_.parameter("net.0.bias", {6});
    merge_case_.parameter("net.1.weight", {3, 6});
    merge_case_.draw({"a", "b", "c"});
    merge_case_.build();
    for (const auto& [name, base] : merge_case_.base) {
      at::Tensor sum = base.clone();
      for (size_t m = 0; m < 3; ++m)
        sum += (name.starts_with("net.0") ? kFirst : kSecond)[m] * (merge_case_.experts[m].at(name) - base);
      wanted_[name] = sum;
    }
    use(false);
  }
  void use(bool lower_is_better) {
    probe_ = std::make_unique<NearnessProbe>(wanted_, lower_is_better);
    merge_case_.input.probe = probe_.get();
  }

  static constexpr double kFirst[] = {0.9, -0.2, 0.4}, kSecond[] = {0.1, 0.6, 1.3};
  MergeCase merge_case_;
  NamedTensors wanted_;
  std::unique_ptr<NearnessProbe> probe_;
};

TEST_F(CmaEsMergingCase, FindsTheCoefficientsOfTheBestScore) {
  for (const std::string covariance : {"full", "diagonal"})
    for (const bool lower : {false, true}) {
      use(lower);
      const auto found = merge_case_.merge("{method: cma_es, evaluations: 1200, covariance: " + covariance + "}");
      const auto& search = *found.report.search;
      EXPECT_EQ(search.groups, (std::vector<std::string>{"net.0.", "net.1."}));
      for (size_t m = 0; m < 3; ++m) {
        EXPECT_NEAR(search.coefficients[0][m], kFirst[m], 1e-3);
        EXPECT_NEAR(search.coefficients[1][m], kSecond[m], 1e-3);
      }
      for (const auto& [name, tensor] : wanted_) EXPECT_LE(difference(found.merged.at(name), tensor), 1e-3) << name;
      EXPECT_EQ(search.lower_is_better, lower);
      EXPECT_NEAR(search.curve.back().value, lower ? 0.0 : 1.0, 1e-4);
      EXPECT_EQ(search.val_looks, probe_->calls);
      EXPECT_EQ(search.curve.back().spent, probe_->calls);
    }
}

TEST_F(CmaEsMergingCase, KeepsToItsBudgetAndIsNoWorseThanItsStart) {
  // 6 coefficients: 9 points a generation; the start, and two generations.
  const auto found = merge_case_.merge("{method: cma_es, evaluations: 27, step: 10}");
  EXPECT_EQ(probe_->calls, 19);
  EXPECT_EQ(found.report.search->curve.size(), 3U);
  EXPECT_EQ(found.report.search->why, "the budget of 27 evaluations is spent");
  // With steps so wide nothing is better than the start, so that it is taken.
  for (const auto& row : found.report.search->coefficients)
    for (const double value : row) EXPECT_EQ(value, 0.3);
}

TEST_F(CmaEsMergingCase, TakesAModelWithoutAScoreForTheWorst) {
  for (const bool lower : {false, true}) {
    use(lower);
    probe_->without_score = 3;  // the start, too
    const auto found = merge_case_.merge("{method: cma_es, evaluations: 1200}");
    EXPECT_TRUE(std::isnan(found.report.search->curve.front().value));
    for (size_t m = 0; m < 3; ++m) EXPECT_NEAR(found.report.search->coefficients[0][m], kFirst[m], 1e-3);
  }
}

TEST_F(CmaEsMergingCase, StartsAtTheTasksWeights) {
  merge_case_.input.experts[1].weight = -2.0;
  merge_case_.input.experts[2].weight = 0.0;
  const auto found = merge_case_.merge("{method: cma_es, coefficients: model, start: 0.5, evaluations: 7, step: 10}");
  EXPECT_EQ(found.report.search->tasks, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(found.report.search->coefficients, (std::vector<std::vector<double>>{{0.5, -1.0}}));
}

TEST_F(CmaEsMergingCase, EndsWhenItsPatienceIsSpent) {
  const auto found = merge_case_.merge("{method: cma_es, evaluations: 100000, patience: 3}");
  EXPECT_EQ(found.report.search->why, "no better point in 3 generations");
  EXPECT_LT(probe_->calls, 5000);
}

TEST_F(CmaEsMergingCase, GoesOnWhereItWasStoppedToTheSameBits) {
  const auto method = [] { return make_method(YAML::Load("{method: cma_es, evaluations: 60}"), "merge"); };
  SilentProgress silent;
  const auto whole = merge(*method(), merge_case_.input, silent);
  const TemporaryFolder folder;
  MergeArrangement arrangement;
  arrangement.search_folder = folder.path();
  for (const int64_t update : {2, 30, 40}) {  // of the start, and in the midst of generations
    test::InterruptingProgress interrupting(update);
    EXPECT_THROW(merge(*method(), merge_case_.input, interrupting, arrangement), Interrupted);
  }
  probe_->calls = 0;
  const auto resumed = merge(*method(), merge_case_.input, silent, arrangement);
  EXPECT_LT(probe_->calls, 30);  // of 55
  for (const auto& [name, tensor] : whole.merged) EXPECT_TRUE(at::equal(tensor, resumed.merged.at(name))) << name;
  EXPECT_EQ(whole.report.search->coefficients, resumed.report.search->coefficients);
  EXPECT_EQ(whole.report.search->val_looks, resumed.report.search->val_looks);
  EXPECT_EQ(whole.report.search->why, resumed.report.search->why);
}

TEST_F(CmaEsMergingCase, RefusesABudgetOrAPopulationThatIsTooSmall) {
  EXPECT_THAT(input_error_of([&] { merge_case_.merge("{method: cma_es, evaluations: 9}"); }), HasSubstr("at least 10"));
  const auto refusal = [](const std::string& entry) {  // before there is anything to merge
    return input_error_of([&] { make_method(YAML::Load(entry), "merge"); });
  };
  EXPECT_THAT(refusal("{method: cma_es, population: 2}"), HasSubstr("at least 3"));
  EXPECT_THAT(refusal("{method: cma_es, evaluations: 4}"), HasSubstr("at least 5"));
  EXPECT_THAT(refusal("{method: cma_es, evaluations: 40, population: 40}"), HasSubstr("at least 41"));
  merge_case_.input.probe = nullptr;
  EXPECT_THAT(input_error_of([&] { merge_case_.merge("cma_es"); }), HasSubstr("runs the models"));
}

}  // namespace
}  // namespace amalgam
