#include "solvers/methods/dare.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

#include "expect_error.h"
#include "solvers/vector_case.h"

namespace amalgam {
namespace {

using test::MergeCase;
using test::Vector;
using test::VectorCase;
using testing::HasSubstr;

/// The changes that are left of each expert: of one alone, added as they are.
std::vector<Vector> left_of(VectorCase& vectors, const std::string& options = "") {
  std::vector<Vector> left;
  for (size_t m = 0; m < vectors.weights().size(); ++m)
    left.push_back(
        vectors.change_alone("{method: dare, inner: {method: task_arithmetic, scale: 1}" + options + "}", m));
  return left;
}

TEST(Dare, DropsElementsAndScalesUpTheOthers) {
  MergeCase merge_case;
  merge_case.parameter("p", {100, 101});
  merge_case.draw({"a"});
  merge_case.base["p"].zero_();
  merge_case.build();
  for (const double drop : {0.0, 0.3, 0.9, 1.0}) {
    SCOPED_TRACE(drop);
    const at::Tensor& change = merge_case.experts[0].at("p");
    const at::Tensor merged =
        merge_case.merge(fmt::format("{{method: dare, drop: {}, inner: {{method: task_arithmetic, scale: 1}}}}", drop))
            .merged.at("p");
    const at::Tensor kept = merged != 0;
    const double share = kept.to(at::kDouble).mean().item<double>();
    EXPECT_NEAR(share, 1 - drop, 5 * std::sqrt(drop * (1 - drop) / 10100));
    const double factor = drop < 1 ? 1 / (1 - drop) : 0.0;
    EXPECT_LE(test::difference(merged, change * kept * factor), 16 * test::kEps64 * factor);
  }
}

TEST(Dare, LeavesTheSizeOnRequest) {
  VectorCase vectors({"a"});
  vectors.build();
  const Vector change = vectors.changes()[0], scaled = left_of(vectors)[0],
               left = left_of(vectors, ", rescale: false")[0];
  for (size_t i = 0; i < change.size(); ++i) EXPECT_NEAR(left[i], scaled[i] == 0 ? 0.0 : change[i], 1e-15) << i;
}

TEST(Dare, GivesEveryTaskAndParameterDrawsOfTheirOwn) {
  VectorCase vectors({"a", "b"});
  vectors.with_equal_experts().build();
  const std::vector<Vector> left = left_of(vectors);
  EXPECT_NE(left[0], left[1]);
}

TEST(Dare, DrawsTheSameInAnyOrderOfTasksAndParameters) {
  VectorCase one({"a", "b"}), other({"a", "b"});
  one.build();
  std::swap(other.merge_case.tasks[0], other.merge_case.tasks[1]);
  std::swap(other.merge_case.experts[0], other.merge_case.experts[1]);
  std::reverse(other.merge_case.parameters.begin(), other.merge_case.parameters.end());
  other.build();
  const std::vector<Vector> left = left_of(one), swapped = left_of(other);
  EXPECT_EQ(left[0], swapped[1]);
  EXPECT_EQ(left[1], swapped[0]);
}

TEST(Dare, DrawsBySeed) {
  VectorCase vectors({"a"});
  vectors.build();
  const std::vector<Vector> first = left_of(vectors);
  EXPECT_EQ(left_of(vectors), first);
  vectors.merge_case.input.seed = 1;
  EXPECT_NE(left_of(vectors), first);
}

TEST(Dare, IsTheInnerMethodOnAverageOverSeeds) {
  constexpr int kSeeds = 400;
  constexpr double kDrop = 0.5, kScale = 0.3;
  VectorCase vectors({"a", "b"});
  vectors.weigh({1.0, 0.5}).build();
  Vector mean(41, 0.0);
  for (int seed = 0; seed < kSeeds; ++seed) {
    vectors.merge_case.input.seed = static_cast<uint64_t>(seed);
    const Vector merged = VectorCase::whole(vectors.merge_case.merge("dare").merged);
    for (size_t i = 0; i < mean.size(); ++i) mean[i] += merged[i] / kSeeds;
  }
  const Vector undropped = VectorCase::whole(vectors.merge_case.merge("task_arithmetic").merged);
  const std::vector<Vector> changes = vectors.changes();
  for (size_t i = 0; i < mean.size(); ++i) {
    // One merge has the variance λ² Σ α² d² p / (1 − p).
    const double squares = changes[0][i] * changes[0][i] + 0.25 * changes[1][i] * changes[1][i];
    const double deviation = kScale * std::sqrt(squares * kDrop / (1 - kDrop) / kSeeds);
    EXPECT_NEAR(mean[i], undropped[i], 5 * deviation) << i;
  }
}

TEST(Dare, AddsWhatIsLeftByDefault) {
  for (const at::ScalarType stored : test::kStoredTypes) {
    VectorCase vectors({"a", "b"}, stored);
    vectors.weigh({1.0, -0.5}).build();
    const std::vector<Vector> changes = vectors.changes();
    VectorCase exact({"a", "b"});  // the same draws, for the same names
    exact.build();
    const std::vector<Vector> left = left_of(exact);
    Vector expected(41, 0.0);
    for (size_t m = 0; m < 2; ++m)
      for (size_t i = 0; i < expected.size(); ++i)
        if (left[m][i] != 0) expected[i] += 0.3 * vectors.weights()[m] * changes[m][i] / 0.5;
    vectors.expect_change("dare", expected);
  }
}

TEST(Dare, GivesTiesTheDroppedExpertsToPlanWith) {
  VectorCase vectors({"a", "b", "c"}), dropped({"a", "b", "c"});
  vectors.weigh({1.0, 0.5, 2.0}).build();
  const std::vector<Vector> left = left_of(vectors);
  for (size_t m = 0; m < left.size(); ++m) {
    int64_t begin = 0;
    for (const char* name : VectorCase::kNames) {
      at::Tensor& tensor = dropped.merge_case.experts[m].at(name);
      const at::Tensor values = at::tensor(left[m], at::kDouble).slice(0, begin, begin + tensor.numel());
      tensor = dropped.merge_case.base.at(name) + values.view(tensor.sizes());
      begin += tensor.numel();
    }
  }
  dropped.weigh({1.0, 0.5, 2.0}).build();
  const Vector expected = VectorCase::whole(dropped.merge_case.merge("{method: ties, density: 0.3}").merged),
               merged = VectorCase::whole(
                   vectors.merge_case.merge("{method: dare, inner: {method: ties, density: 0.3}}").merged);
  for (size_t i = 0; i < merged.size(); ++i) EXPECT_NEAR(merged[i], expected[i], 1e-14) << i;
}

TEST(Dare, TakesAMethodThatMergesLayersByStatistics) {
  MergeCase plain, dropped;
  for (MergeCase* merge_case : {&plain, &dropped}) {
    merge_case->add(test::linear("fc", 5, 6, true));
    merge_case->draw({"a", "b"});
  }
  plain.build();
  for (size_t m = 0; m < 2; ++m) {
    plain.input.experts[1 - m].weight = 0;
    const auto left = plain.merge("{method: dare, inner: {method: task_arithmetic, scale: 1}}").merged;
    for (const char* name : {"fc.weight", "fc.bias"}) dropped.experts[m].at(name) = left.at(name);
    plain.input.experts[1 - m].weight = 1;
  }
  dropped.build();
  for (const char* inner : {"regmean", "{method: mats, tolerance: 1e-12}"}) {
    SCOPED_TRACE(inner);
    const auto merged = plain.merge(fmt::format("{{method: dare, inner: {}}}", inner));
    const auto expected = dropped.merge(inner);
    EXPECT_TRUE(merged.report.fallbacks.empty());
    for (const char* name : {"fc.weight", "fc.bias"})
      EXPECT_LE(test::difference(merged.merged.at(name), expected.merged.at(name)), 1e-9);
  }
}

TEST(Dare, AveragesTheExpertsAsTheyAreWhereItIsLeftOut) {
  VectorCase vectors({"a", "b"});
  vectors.build();
  const at::Tensor mean =
      0.5 * (vectors.merge_case.experts[0].at("vector") + vectors.merge_case.experts[1].at("vector"));
  const auto outcome = vectors.merge_case.merge("{method: dare, except: [vector], inner: ties}");
  EXPECT_LE(test::difference(outcome.merged.at("vector"), mean), 1e-15);
  ASSERT_EQ(outcome.report.fallbacks.size(), 1U);
}

TEST(Dare, DoesNotHideAValueThatIsNotFinite) {
  VectorCase vectors({"a", "b"});
  vectors.merge_case.experts[1].at("vector").fill_(std::numeric_limits<double>::infinity());
  vectors.build();
  EXPECT_THAT(input_error_of([&] { vectors.merge_case.merge("{method: dare, drop: 1}"); }), HasSubstr("'vector'"));
}

TEST(Dare, RefusesWhatItCannotUse) {
  VectorCase vectors({"a", "b"});
  vectors.build();
  const auto message = [&](const char* entry) { return input_error_of([&] { vectors.merge_case.merge(entry); }); };
  EXPECT_THAT(message("{method: dare, inner: regmean++}"), HasSubstr("merge.inner: 'regmean++' runs the models"));
  EXPECT_THAT(message("{method: dare, inner: lora_lego}"), HasSubstr("merge.inner: 'lora_lego' merges the factors"));
  EXPECT_THAT(message("{method: dare, inner: dare}"), HasSubstr("merge.inner"));
  EXPECT_THAT(message("{method: dare, inner: {method: aim, inner: dare}}"), HasSubstr("draw the same elements twice"));
  EXPECT_THAT(message("{method: dare, inner: {method: ties, except: [vector]}}"), HasSubstr("give them to `dare`"));
  EXPECT_THAT(message("{method: dare, inner: {method: ties, dnsity: 1}}"), HasSubstr("density"));
  EXPECT_THAT(message("{method: dare, inner: tees}"), HasSubstr("'ties'"));
  EXPECT_THAT(message("{method: dare, drop: 1.5}"), HasSubstr("drop"));
  EXPECT_THAT(message("{method: dare, inner: fisher, drop: 0.1, scale: 2}"), HasSubstr("scale"));
  vectors.merge_case.input.base = nullptr;
  EXPECT_THAT(message("{method: dare, inner: average}"), HasSubstr("base"));
}

TEST(Dare, AsksForWhatItsInnerMethodNeeds) {
  const auto requirements = [](const char* entry) { return make_method(YAML::Load(entry), "merge")->requirements(); };
  EXPECT_TRUE(requirements("{method: dare, inner: regmean}").layers);
  EXPECT_TRUE(requirements("{method: dare, inner: regmean}").base);
  EXPECT_TRUE(requirements("{method: dare, inner: fisher}").statistics.contains(StatisticKind::kSquaredGradient));
  EXPECT_TRUE(requirements("dare").negative_weights);
  EXPECT_FALSE(requirements("{method: dare, inner: ties}").negative_weights);
}

}  // namespace
}  // namespace amalgam
