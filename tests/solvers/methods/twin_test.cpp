#include "solvers/methods/twin.h"

#include <gmock/gmock.h>

#include "core/low_rank.h"
#include "core/task_parts.h"
#include "expect_error.h"
#include "solvers/merge_case.h"
#include "solvers/probe_case.h"

namespace amalgam {
namespace {

using test::MergeCase;
using testing::HasSubstr;

/// Two layers, a kernel and a vector that no layer uses; odd sizes.
class TwinTest : public testing::Test {
 protected:
  MergeCase& built(at::ScalarType stored = at::kDouble, const std::vector<double>& weights = {1.0, 1.0}) {
    merge_case_.add(test::linear("fc", 7, 5, /*bias=*/true));
    merge_case_.add(test::convolution("conv", 6, 3, 3, 1, /*bias=*/false));
    merge_case_.parameter("norm", {9});
    merge_case_.draw({"a", "b"});
    merge_case_.store_as(stored);
    merge_case_.weights = weights;
    merge_case_.input.buffers = {"mean"};
    merge_case_.base["mean"] = at::zeros({3});
    for (size_t m = 0; m < 2; ++m) merge_case_.experts[m]["mean"] = at::full({3}, 1.0 + static_cast<double>(m));
    merge_case_.build();
    return merge_case_;
  }

  static at::Tensor task_value(const MergeOutcome& outcome, const std::string& task, const std::string& name) {
    const MemoryTensors shared(outcome.merged), parts(outcome.task_parts);
    check_parts(shared, parts, "outcome");
    return with_part(shared, parts, task, name);
  }

  /// The best rank-r approximation, by the eigenvectors of the Gram matrix: D V_r V_rᵀ.
  static at::Tensor projected(const at::Tensor& change, int64_t rank) {
    const at::Tensor d = change.to(at::kDouble).flatten(1);
    const at::Tensor vectors = std::get<1>(at::linalg_eigh(d.t().mm(d)));  // ascending
    const at::Tensor kept = vectors.slice(1, vectors.size(1) - rank);
    return d.mm(kept).mm(kept.t()).view_as(change);
  }

  MergeCase merge_case_;
};

TEST_F(TwinTest, AddsTheFirstSingularTripletsOfWhatIsMissing) {
  for (const at::ScalarType stored : {at::kDouble, at::kFloat, at::kBFloat16}) {
    SCOPED_TRACE(c10::toString(stored));
    merge_case_ = MergeCase();
    built(stored);
    const double rounding = stored == at::kBFloat16 ? 0x1p-7 : stored == at::kFloat ? 0x1p-21 : 1e-12;
    for (const int64_t rank : {1, 2}) {
      const MergeOutcome outcome = merge_case_.merge(fmt::format("{{method: twin, rank: {}}}", rank));
      for (size_t m = 0; m < 2; ++m)
        for (const char* name : {"fc.weight", "conv.weight"}) {
          const at::Tensor own = merge_case_.experts[m].at(name).to(at::kDouble),
                           shared = outcome.merged.at(name).to(at::kDouble);
          const at::Tensor expected = shared + projected(own - shared, rank),
                           found = task_value(outcome, merge_case_.tasks[m], name).to(at::kDouble);
          EXPECT_LT((found - expected).abs().max().item<double>(),
                    rounding * (1 + expected.abs().max().item<double>()));
        }
    }
  }
}

TEST_F(TwinTest, MergesAsItsInnerMethod) {
  built();
  for (const std::string inner : {"average", "{method: task_arithmetic, scale: 0.5}", "regmean", "ties"}) {
    const NamedTensors twin = merge_case_.merge("{method: twin, inner: " + inner + "}").merged,
                       alone = merge_case_.merge(inner).merged;
    for (const auto& [name, tensor] : alone) EXPECT_TRUE(at::equal(twin.at(name), tensor)) << inner << " " << name;
  }
  EXPECT_TRUE(at::equal(merge_case_.merge("twin").merged.at("fc.weight"),
                        merge_case_.merge("task_arithmetic").merged.at("fc.weight")));
}

TEST_F(TwinTest, LetsItsInnerMethodSearch) {
  const std::string inner = "{method: adamerging, steps: 5, rate: 0.02, batch: 8}";
  test::EntropyCase model({"a", "b"});
  model.begin();
  const MergeOutcome twin = model.merge("{method: twin, inner: " + inner + "}"), alone = model.merge(inner);
  for (const auto& [name, tensor] : alone.merged) EXPECT_TRUE(at::equal(twin.merged.at(name), tensor)) << name;
  ASSERT_TRUE(twin.report.search);
  EXPECT_EQ(twin.report.search->curve.size(), 5U);
}

TEST_F(TwinTest, LetsItsInnerMethodSearchWithTheAverageOfWhatIsLeftOut) {
  const std::string steps = "steps: 5, rate: 0.02, batch: 8", except = "except: [net.1.weight]";
  test::EntropyCase model({"a", "b"});
  model.begin();
  const MergeOutcome twin = model.merge("{method: twin, " + except + ", inner: {method: adamerging, " + steps + "}}"),
                     alone = model.merge("{method: adamerging, " + except + ", " + steps + "}");
  for (const auto& [name, tensor] : alone.merged) EXPECT_TRUE(at::equal(twin.merged.at(name), tensor)) << name;
  EXPECT_EQ(twin.report.search->coefficients, alone.report.search->coefficients);
}

TEST_F(TwinTest, OfFullRankGivesEveryExpertBackBitForBit) {
  built(at::kFloat, {1.0, 0.0});
  const MergeOutcome outcome = merge_case_.merge("{method: twin, rank: 1000, inner: regmean}");
  for (size_t m = 0; m < 2; ++m)
    for (const auto& [name, tensor] : merge_case_.experts[m])
      EXPECT_TRUE(at::equal(task_value(outcome, merge_case_.tasks[m], name), tensor)) << name;
}

TEST_F(TwinTest, GivesBackAnExpertWhoseChangeHasTheRank) {
  built();
  const at::Tensor up = merge_case_.random.normal({7, 2}), down = merge_case_.random.normal({2, 5});
  MergeCase low;
  low.parameter("weight", {7, 5});
  low.draw({"a"});
  low.experts[0]["weight"] = low.base["weight"] + up.mm(down);
  low.build();
  const MergeOutcome outcome = low.merge("{method: twin, rank: 2}");
  ASSERT_TRUE(outcome.task_parts.contains("a/weight.lora_A"));
  EXPECT_LT((task_value(outcome, "a", "weight") - low.experts[0]["weight"]).abs().max().item<double>(), 1e-12);
}

TEST_F(TwinTest, KeepsWhatIsSmallerThanTheMatrixAndVectorsWhole) {
  built();
  const NamedTensors parts = merge_case_.merge("{method: twin, rank: 2}").task_parts;
  EXPECT_EQ(parts.at("a/fc.weight.lora_A").sizes(), (std::vector<int64_t>{2, 5}));
  EXPECT_EQ(parts.at("a/fc.weight.lora_B").sizes(), (std::vector<int64_t>{7, 2}));
  EXPECT_EQ(parts.at("b/conv.weight.lora_A").sizes(), (std::vector<int64_t>{2, 27}));
  EXPECT_TRUE(at::equal(parts.at("b/norm"), merge_case_.experts[1].at("norm")));
  EXPECT_TRUE(at::equal(parts.at("b/mean"), merge_case_.experts[1].at("mean"))) << "buffers stay the experts' own";
  const NamedTensors larger = merge_case_.merge("{method: twin, rank: 3}").task_parts;  // 3 · 12 > 35
  EXPECT_TRUE(at::equal(larger.at("a/fc.weight"), merge_case_.experts[0].at("fc.weight")));
}

TEST_F(TwinTest, SharesVectorsOnRequestAndLeavesOutWhatItIsTold) {
  built();
  const NamedTensors parts =
      merge_case_.merge("{method: twin, rank: 1, vectors: shared, except: ['conv.*']}").task_parts;
  EXPECT_FALSE(parts.contains("a/norm"));
  EXPECT_FALSE(parts.contains("a/fc.bias"));
  EXPECT_FALSE(parts.contains("a/conv.weight.lora_A"));
  EXPECT_TRUE(parts.contains("a/fc.weight.lora_A"));
}

TEST_F(TwinTest, RefusesAnInnerMethodThatItCannotUse) {
  for (const auto& [inner, why] :
       {std::pair{"{method: average, except: [x]}", "give them to `twin`"}, std::pair{"tall", "keeps parts"},
        std::pair{"twin", "keeps parts"}, std::pair{"avrage", "average"}})
    EXPECT_THAT(input_error_of([&, entry = inner] {
                  make_method(YAML::Load(std::string("{method: twin, inner: ") + entry + "}"), "merge");
                }),
                HasSubstr(why));
}

}  // namespace
}  // namespace amalgam
