#include <gmock/gmock.h>

#include <algorithm>

#include "core/error.h"
#include "solvers/merge_case.h"

namespace amalgam {
namespace {

using test::MergeCase;

/// Counts how often each tensor of another source is read and announced.
class CountingTensors final : public TensorSource {
 public:
  explicit CountingTensors(const TensorSource& source) : source_(source) {}

  const std::map<std::string, TensorInfo>& infos() const override { return source_.infos(); }
  at::Tensor get(const std::string& name) const override {
    ++reads[name];
    return source_.get(name);
  }
  void prefetch(const std::vector<std::string>& names) const override {
    for (const std::string& name : names)
      if (!reads.contains(name)) announced.insert(name);  // a later announcement helps nobody
  }

  mutable std::map<std::string, int> reads;
  mutable std::set<std::string> announced;

 private:
  const TensorSource& source_;
};

/// A case of linear layers, a convolution in groups, and a parameter without a layer, whose readings are counted.
class MergeVariants : public testing::Test {
 protected:
  void SetUp() override {
    case_.add(test::linear("a", 5, 7, true));
    case_.add(test::linear("b", 5, 7, true));
    case_.add(test::convolution("c", 4, 3, 2, 2, true));
    case_.parameter("token", {3});
    case_.draw({"x", "y"});
    case_.base["count"] = at::full({}, 2, at::kLong);
    for (auto& expert : case_.experts) expert["count"] = at::full({}, 2, at::kLong);
    case_.build().buffers = {"count"};
    for (ExpertInput& expert : case_.input.experts) {
      sums_.push_back(std::make_shared<CountingTensors>(expert.statistics->sums()));
      counted_.push_back(std::make_unique<Statistics>(expert.statistics->header(), sums_.back()));
      expert.statistics = counted_.back().get();
      tensors_.push_back(std::make_unique<CountingTensors>(*expert.tensors));
      expert.tensors = tensors_.back().get();
    }
  }

  std::vector<MergeOutcome> variants(const std::vector<std::string>& entries,
                                     const MergeArrangement& arrangement = {}) {
    std::vector<std::unique_ptr<MergeMethod>> methods;
    std::vector<MergeMethod*> pointers;
    for (const std::string& entry : entries)
      pointers.push_back(methods.emplace_back(make_method(YAML::Load(entry), "merge")).get());
    std::vector<MergeOutcome> outcomes;
    SilentProgress progress;
    const auto take = [&](size_t variant, MergeOutcome outcome) {
      EXPECT_EQ(variant, outcomes.size());
      outcomes.push_back(std::move(outcome));
    };
    merge_variants(pointers, case_.input, progress, take, arrangement);
    return outcomes;
  }

  void expect_equal_to_separate_merges(const std::vector<std::string>& entries,
                                       const MergeArrangement& arrangement = {}) {
    const auto outcomes = variants(entries, arrangement);
    ASSERT_EQ(outcomes.size(), entries.size());
    for (size_t v = 0; v < entries.size(); ++v) {
      const MergeOutcome alone = case_.merge(entries[v]);
      ASSERT_EQ(outcomes[v].merged.size(), alone.merged.size());
      for (const auto& [name, tensor] : alone.merged)
        EXPECT_TRUE(at::equal(outcomes[v].merged.at(name), tensor)) << entries[v] << ": " << name;
      EXPECT_EQ(outcomes[v].report.method, alone.report.method);
      EXPECT_EQ(outcomes[v].report.fallbacks.size(), alone.report.fallbacks.size());
      EXPECT_EQ(outcomes[v].report.merged_parameters, alone.report.merged_parameters);
      ASSERT_EQ(outcomes[v].report.layers.size(), alone.report.layers.size());
      for (size_t i = 0; i < alone.report.layers.size(); ++i) {
        EXPECT_EQ(outcomes[v].report.layers[i].layer, alone.report.layers[i].layer);
        EXPECT_EQ(outcomes[v].report.layers[i].residual, alone.report.layers[i].residual);
        EXPECT_EQ(outcomes[v].report.layers[i].notes, alone.report.layers[i].notes);
      }
    }
  }

  /// The most often that any of the tensors with this ending was read.
  int most_reads(const std::string& ending) const {
    int most = 0;
    for (const auto& sums : sums_)
      for (const auto& [name, count] : sums->reads)
        if (name.ends_with(ending)) most = std::max(most, count);
    return most;
  }

  MergeCase case_;
  std::vector<std::shared_ptr<CountingTensors>> sums_;
  std::vector<std::unique_ptr<Statistics>> counted_;
  std::vector<std::unique_ptr<CountingTensors>> tensors_;
};

const std::vector<std::string> kRegMeans = {
    "{method: regmean, off_diagonal: 0}",   "{method: regmean, off_diagonal: 0.3}",
    "{method: regmean, off_diagonal: 0.9}", "{method: regmean, off_diagonal: 1}",
    "{method: regmean, ridge: 1e-2}",       "{method: regmean, ridge: 0}"};

TEST_F(MergeVariants, EqualSeparateMergesBitByBit) {
  expect_equal_to_separate_merges(kRegMeans);
  expect_equal_to_separate_merges(
      {"mats", "{method: mats, damping: 1}", "{method: mats, iterations: 2}", "{method: mats, init: regmean}"});
  expect_equal_to_separate_merges({"{method: task_arithmetic, scale: 0.1}", "{method: task_arithmetic, scale: 2}"});
}

TEST_F(MergeVariants, OfWhatLooksAtTheWholeModelOrDrawsEqualSeparateMerges) {
  expect_equal_to_separate_merges({"ties", "{method: ties, density: 0.5, except: ['b.*']}",
                                   "{method: ties, trim: tensor}", "pcb", "{method: pcb, density: 0.5}"});
  expect_equal_to_separate_merges({"dare", "{method: dare, drop: 0.2}", "{method: dare, inner: ties}", "della",
                                   "{method: della, drop: 0.5}", "{method: dare, except: ['b.*']}"});
  expect_equal_to_separate_merges({"breadcrumbs", "consensus", "{method: consensus, mask_scale: [0.2, 0.6]}", "sce",
                                   "{method: sce, density: 0.3}"});
}

TEST_F(MergeVariants, OfDroppedExpertsShareNothing) {
  expect_equal_to_separate_merges({"{method: dare, drop: 0.2, inner: mats}", "{method: dare, inner: mats}", "mats",
                                   "{method: dare, drop: 0.2, inner: regmean}", "regmean"});
}

TEST_F(MergeVariants, MayFormDifferentGroups) {
  expect_equal_to_separate_merges({"regmean", "{method: regmean, except: [a.weight]}",
                                   "{method: regmean, except: ['*.bias']}", "average", "mats", "fisher",
                                   "{method: regmean, weights: gradient}"});
}

TEST_F(MergeVariants, EqualSeparateMergesInSeveralPasses) {
  MergeArrangement arrangement;
  arrangement.merged_bytes = 1;  // one variant a pass
  expect_equal_to_separate_merges(kRegMeans, arrangement);
}

TEST_F(MergeVariants, ReadTheStatisticsOnce) {
  variants(kRegMeans);
  EXPECT_EQ(most_reads("/input_gram"), 1);
  EXPECT_EQ(most_reads("/input_sum"), 1);
}

TEST_F(MergeVariants, ReadTheStatisticsOnceAPass) {
  const int64_t model = (5 * 7 + 5) * 2 * 8 + (4 * 3 * 4 + 4) * 8 + 3 * 8 + 8;
  MergeArrangement arrangement;
  arrangement.merged_bytes = 2 * model + 1;
  variants(kRegMeans, arrangement);
  EXPECT_EQ(most_reads("/input_gram"), 3);
  arrangement.merged_bytes = 2 * model - 1;
  for (const auto& sums : sums_) sums->reads.clear();
  variants(kRegMeans, arrangement);
  EXPECT_EQ(most_reads("/input_gram"), 6);
}

TEST_F(MergeVariants, ShareNothingThatDependsOnWhatTheyVary) {
  const auto outcomes = variants({"regmean", "{method: regmean, weights: gradient}"});
  EXPECT_GT(test::difference(outcomes[0].merged.at("a.weight"), outcomes[1].merged.at("a.weight")), 1e-6);
}

TEST_F(MergeVariants, AnnounceTheNextGroupBeforeItIsRead) {
  case_.input.group_bytes = 1;  // three groups
  variants({"regmean", "{method: regmean, weights: gradient}"});
  for (const auto& sums : sums_)
    for (const char* name : {"/input_gram", "/input_sum", "/output_gram"}) {
      const auto is_announced = [&](const std::string& layer) { return sums->announced.contains(layer + name); };
      EXPECT_EQ(is_announced("a") + is_announced("b") + is_announced("c"), 2) << name;  // all but the first group
    }
  for (const auto& tensors : tensors_) EXPECT_TRUE(tensors->announced.contains("b.weight"));
}

TEST_F(MergeVariants, AreRefusedTogetherWhereOneLacksWhatItNeeds) {
  case_.input.base = nullptr;
  EXPECT_THROW(variants({"average", "task_arithmetic"}), InputError);
}

}  // namespace
}  // namespace amalgam
