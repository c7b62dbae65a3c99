#include "apps/reset_passes.h"

#include <gtest/gtest.h>

#include "core/tensor_source.h"

namespace amalgam {
namespace {

/// Examples that all hold one number, in images of one size.
class Plain final : public Dataset {
 public:
  Plain(double value, int64_t size, int64_t examples = 40) : value_(value), size_(size), examples_(examples) {}

  int64_t size() const override { return examples_; }
  int64_t classes() const override { return 2; }
  bool holds_images() const override { return true; }
  Batch get(const std::vector<int64_t>& ids) const override {
    Batch batch;
    batch.count = std::ssize(ids);
    batch.inputs = {at::full({batch.count, 1, size_, size_}, value_)};
    batch.target = at::zeros({batch.count}, at::kLong);
    return batch;
  }
  const std::string& digest() const override { return digest_; }

 private:
  double value_;
  int64_t size_, examples_;
  std::string digest_;
};

TEST(ResetPasses, HaveSomeOfAllTasksOfOneShapeInEveryBatch) {
  const Plain dark(0, 4), light(1, 4), large(2, 6);
  EvaluateSpec spec;
  spec.batch = 8;
  const auto passes = reset_passes({{"dark", &dark}, {"large", &large}, {"light", &light}}, spec, 1, 12);
  ASSERT_EQ(passes.size(), 2U);
  EXPECT_EQ(passes[0].task, "dark");
  EXPECT_EQ(passes[1].task, "large");
  EXPECT_EQ(passes[0].examples->examples(), 24);
  int64_t count = 0;
  for (Batch batch; passes[0].examples->next(batch); count += batch.count)
    EXPECT_DOUBLE_EQ(batch.inputs[0].mean().item<double>(), 0.5);  // as many of the one as of the other
  EXPECT_EQ(count, 24);
  Batch batch;
  ASSERT_TRUE(passes[1].examples->next(batch));
  EXPECT_EQ(batch.inputs[0].sizes(), (std::vector<int64_t>{8, 1, 6, 6}));
}

TEST(ResetPasses, SpreadATaskOfFewExamplesOverTheBatchesOfTheOthers) {
  const Plain many(0, 4, 40), few(1, 4, 20);
  EvaluateSpec spec;
  spec.batch = 8;
  const auto passes = reset_passes({{"few", &few}, {"many", &many}}, spec, 1, 40);
  ASSERT_EQ(passes.size(), 1U);
  int64_t batches = 0;
  for (Batch batch; passes[0].examples->next(batch); ++batches) {
    EXPECT_EQ(batch.count, 4 + 2);
    EXPECT_NEAR(batch.inputs[0].mean().item<double>(), 1.0 / 3, 1e-6);
  }
  EXPECT_EQ(batches, 10);
}

TEST(MomentsNeverMoved, AreThoseOfNoExpertThatDiffersFromTheBase) {
  const MemoryTensors base(
      {{"norm.running_mean", at::zeros({2})}, {"norm.num_batches_tracked", at::zeros({}, at::kLong)}}),
      frozen({{"norm.running_mean", at::zeros({2})}, {"norm.num_batches_tracked", at::ones({}, at::kLong)}}),
      moved({{"norm.running_mean", at::ones({2})}, {"norm.num_batches_tracked", at::ones({}, at::kLong)}});
  MergeInput input;
  input.base = &base;
  input.experts = {{"a", 1.0, &frozen, nullptr}};
  EXPECT_FALSE(moments_never_moved(input));  // no buffers: no batch norms
  input.buffers.emplace_back("norm.num_batches_tracked");
  EXPECT_FALSE(moments_never_moved(input));
  input.buffers.emplace_back("norm.running_mean");
  EXPECT_TRUE(moments_never_moved(input));
  input.experts.push_back({"b", 1.0, &moved, nullptr});
  EXPECT_FALSE(moments_never_moved(input));
}

}  // namespace
}  // namespace amalgam
