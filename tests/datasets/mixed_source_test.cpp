#include "datasets/mixed_source.h"

#include <gtest/gtest.h>

namespace amalgam {
namespace {

/// One input of so many features; examples are numbered from `first`.
class Numbers final : public BatchSource {
 public:
  Numbers(int64_t first, int64_t count, int64_t batch, int64_t width = 2)
      : data_(at::arange(first, first + count).view({-1, 1}).expand({count, width})), batch_(batch) {}

  bool next(Batch& batch) override {
    const int64_t left = std::min(batch_, data_.size(0) - at_);
    if (left == 0) return false;
    batch = {};
    batch.inputs = {data_.narrow(0, at_, left)};
    batch.named_inputs["also"] = data_.narrow(0, at_, left);
    batch.count = left;
    at_ += left;
    return true;
  }
  void reset() override { at_ = 0; }
  int64_t examples() const override { return data_.size(0); }

 private:
  at::Tensor data_;
  int64_t batch_, at_ = 0;
};

std::vector<std::vector<int64_t>> firsts(MixedSource& source) {
  std::vector<std::vector<int64_t>> batches;
  for (Batch batch; source.next(batch);) {
    EXPECT_EQ(batch.count, batch.inputs[0].size(0));
    EXPECT_TRUE(at::equal(batch.inputs[0], batch.named_inputs.at("also")));
    const at::Tensor first = batch.inputs[0].select(1, 0).contiguous();
    batches.emplace_back(first.const_data_ptr<int64_t>(), first.const_data_ptr<int64_t>() + first.numel());
  }
  return batches;
}

template <class... Sources>
MixedSource mixed(Sources... parts) {
  std::vector<std::unique_ptr<BatchSource>> sources;
  (sources.push_back(std::make_unique<Numbers>(parts)), ...);
  return MixedSource(std::move(sources));
}

TEST(MixedSource, HasSomeOfEachInEveryBatchUntilOneEnds) {
  MixedSource source = mixed(Numbers(0, 4, 2), Numbers(10, 3, 2));
  EXPECT_EQ(source.examples(), 7);
  const std::vector<std::vector<int64_t>> expected = {{0, 1, 10, 11}, {2, 3, 12}};
  EXPECT_EQ(firsts(source), expected);
  source.reset();
  EXPECT_EQ(firsts(source), expected);
}

TEST(MixedSource, KeepsApartWhatDoesNotFit) {
  MixedSource source = mixed(Numbers(0, 2, 1), Numbers(10, 2, 1, 3), Numbers(20, 1, 1));
  const std::vector<std::vector<int64_t>> expected = {{0, 20}, {10}, {1}, {11}};
  EXPECT_EQ(firsts(source), expected);
}

}  // namespace
}  // namespace amalgam
