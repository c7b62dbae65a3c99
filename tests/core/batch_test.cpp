#include "core/batch.h"

#include <gtest/gtest.h>

namespace amalgam {
namespace {

Batch five() {
  Batch batch;
  batch.inputs = {at::arange(10).view({5, 2}), at::arange(5)};
  batch.named_inputs = {{"scale", at::arange(5) * 10}};
  batch.target = at::arange(5) + 20;
  batch.ids = at::arange(5) + 100;
  batch.count = 5;
  return batch;
}

TEST(Batch, NarrowsAllThatBelongsToItsExamples) {
  const Batch part = five().narrow(2, 2);
  EXPECT_EQ(part.count, 2);
  EXPECT_TRUE(at::equal(part.inputs[0], at::tensor({4, 5, 6, 7}, at::kLong).view({2, 2})));
  EXPECT_TRUE(at::equal(part.inputs[1], at::tensor({2, 3}, at::kLong)));
  EXPECT_TRUE(at::equal(part.named_inputs.at("scale"), at::tensor({20, 30}, at::kLong)));
  EXPECT_TRUE(at::equal(part.target, at::tensor({22, 23}, at::kLong)));
  EXPECT_TRUE(at::equal(part.ids, at::tensor({102, 103}, at::kLong)));
  EXPECT_FALSE(part.mask.defined());
  EXPECT_THROW(five().narrow(4, 2), c10::Error);
}

TEST(Batch, MovesAllButItsIds) {
  const Batch moved = five().to(at::kMeta);
  for (const at::Tensor& tensor : {moved.inputs[0], moved.inputs[1], moved.named_inputs.at("scale"), moved.target})
    EXPECT_TRUE(tensor.is_meta());
  EXPECT_TRUE(moved.ids.is_cpu());
}

}  // namespace
}  // namespace amalgam
