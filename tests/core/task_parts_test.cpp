#include "core/task_parts.h"

#include <gmock/gmock.h>

#include "core/low_rank.h"
#include "core/packed_bits.h"
#include "expect_error.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const NamedTensors kShared = {{"fc.weight", at::arange(6, at::kFloat).view({2, 3})},
                              {"fc.bias", at::tensor({1.F, 2.F})},
                              {"kernel", at::ones({2, 2, 2}, at::kBFloat16)},
                              {"count", at::tensor({3}, at::kLong)}};

/// "left" has a part of each kind, "right" a mask alone.
NamedTensors parts() {
  const at::Tensor left = at::tensor({1, 0, 0, 0, 1, 1}).to(at::kBool), right = at::ones({6}, at::kBool);
  return {{"base/fc.weight", at::full({2, 3}, -1.F)},
          {"left/fc.weight.mask", pack_bits(left)},
          {"right/fc.weight.mask", pack_bits(right)},
          {"left/fc.bias", at::tensor({7.F, 8.F})},
          {"left/kernel.lora_A", at::tensor({1.F, 2.F, 3.F, 4.F}).view({1, 4}).to(at::kBFloat16)},
          {"left/kernel.lora_B", at::tensor({1.F, 10.F}).view({2, 1}).to(at::kBFloat16)},
          {"left/count", at::tensor({5}, at::kLong)}};
}

TEST(TaskParts, MakeATasksTensorsOfTheSharedOnes) {
  const MemoryTensors shared(kShared), kept(parts());
  const TaskTensors left(shared, kept, "left"), right(shared, kept, "right"), other(shared, kept, "other");
  EXPECT_TRUE(at::equal(left.get("fc.weight"), at::tensor({0.F, -1.F, -1.F, -1.F, 4.F, 5.F}).view({2, 3})));
  EXPECT_TRUE(at::equal(left.get("fc.bias"), at::tensor({7.F, 8.F})));
  const at::Tensor kernel = at::tensor({2.F, 3.F, 4.F, 5.F, 11.F, 21.F, 31.F, 41.F}).view({2, 2, 2});
  EXPECT_TRUE(at::equal(left.get("kernel"), kernel.to(at::kBFloat16)));
  EXPECT_EQ(left.get("count").item<int64_t>(), 5);
  EXPECT_TRUE(at::equal(right.get("fc.weight"), kShared.at("fc.weight")));
  EXPECT_TRUE(at::equal(right.get("fc.bias"), kShared.at("fc.bias")));
  for (const auto& [name, tensor] : kShared) EXPECT_TRUE(at::equal(other.get(name), tensor)) << name;
  EXPECT_EQ(left.infos(), shared.infos());
}

TEST(TaskParts, KnowTheirKinds) {
  const MemoryTensors kept(parts());
  EXPECT_EQ(part_kind(kept, "left", "fc.weight"), PartKind::kMask);
  EXPECT_EQ(part_kind(kept, "left", "fc.bias"), PartKind::kValue);
  EXPECT_EQ(part_kind(kept, "left", "kernel"), PartKind::kLowRank);
  EXPECT_EQ(part_kind(kept, "right", "fc.bias"), PartKind::kNone);
}

TEST(TaskParts, AreReadAsTheyWereWritten) {
  const TemporaryFolder folder;
  const MemoryTensors shared(kShared), kept(parts());
  write_task_parts(folder / "a.tasks.safetensors", kept, shared, {{"row", "a"}});
  const auto read = open_task_parts(folder / "a.tasks.safetensors", shared);
  EXPECT_EQ(read->infos(), kept.infos());
  EXPECT_EQ(read->metadata().at("row"), "a");
  for (const auto& [name, tensor] : kShared)
    EXPECT_TRUE(at::equal(with_part(shared, *read, "left", name), with_part(shared, kept, "left", name))) << name;
}

TEST(TaskParts, OfAnotherModelAreRefused) {
  const TemporaryFolder folder;
  NamedTensors others = kShared;
  others["fc.bias"] = at::zeros({2});
  const auto path = folder / "a.tasks.safetensors";
  write_task_parts(path, MemoryTensors(parts()), MemoryTensors(others), {});
  EXPECT_THAT(input_error_of([&] { open_task_parts(path, MemoryTensors(kShared)); }),
              AllOf(HasSubstr("a.tasks.safetensors"), HasSubstr("other shared tensors")));
  write_safetensors(path, parts());
  EXPECT_THAT(input_error_of([&] { open_task_parts(path, MemoryTensors(kShared)); }), HasSubstr("no file of tasks'"));
}

TEST(TaskParts, AreRefusedWhereTheyDoNotFit) {
  const MemoryTensors shared(kShared);
  const auto error = [&](const std::string& name, const at::Tensor& tensor, const std::string& without = "") {
    NamedTensors wrong = parts();
    if (tensor.defined()) wrong[name] = tensor;
    if (!without.empty()) wrong.erase(without);
    return input_error_of([&] { check_parts(shared, MemoryTensors(wrong), "file"); });
  };
  const auto bytes = [](int64_t n) { return at::zeros({n}, at::kByte); };
  const auto half = [](at::IntArrayRef sizes) { return at::zeros(sizes, at::kBFloat16); };
  EXPECT_NO_THROW(check_parts(shared, MemoryTensors(parts()), "file"));
  EXPECT_THAT(error("left/fc.weight.mask", bytes(2)),
              AllOf(HasSubstr("file: 'left/fc.weight.mask'"), HasSubstr("[1]")));
  EXPECT_THAT(error("left/fc.weight.mask", at::zeros({1})), HasSubstr("float32"));
  EXPECT_THAT(error("", {}, "base/fc.weight"), HasSubstr("'base/fc.weight' is missing"));
  EXPECT_THAT(error("base/fc.weight", at::zeros({3, 2})), HasSubstr("[2, 3]"));
  EXPECT_THAT(error("base/fc.weight.mask", bytes(1)), HasSubstr("no value of the base"));
  EXPECT_THAT(error("left/fc.bias", at::zeros({3})), HasSubstr("[2]"));
  EXPECT_THAT(error("left/fc.bias", at::zeros({2}, at::kDouble)), HasSubstr("float64"));
  EXPECT_THAT(error("right/fc.bias.mask", bytes(1)), HasSubstr("'base/fc.bias' is missing"));
  EXPECT_THAT(error("left/kernel.lora_A", half({1, 5})), HasSubstr("[1, 4]"));
  EXPECT_THAT(error("left/kernel.lora_B", half({2, 2})), HasSubstr("kernel"));
  EXPECT_THAT(error("left/kernel.lora_B", half({4})), HasSubstr("[2, 1] was expected"));
  EXPECT_THAT(error("", {}, "left/kernel.lora_A"), HasSubstr("'left/kernel.lora_A' is missing"));
  EXPECT_THAT(error("left/kernel", half({2, 2, 2})), HasSubstr("several kinds"));
  EXPECT_THAT(error("right/count.lora_A", half({1, 1})), HasSubstr("no factor of a matrix"));
  EXPECT_THAT(error("left/fc.wait", at::zeros({2})), HasSubstr("belongs to no tensor"));
  EXPECT_THAT(error("fc.bias", at::zeros({2})), HasSubstr("names no task"));
  EXPECT_THAT(error("/fc.bias", at::zeros({2})), HasSubstr("names no task"));
}

TEST(TaskParts, HoldAWholeRouterOrNone) {
  const MemoryTensors shared(kShared);
  const auto real = at::TensorOptions(at::kDouble);
  const NamedTensors router = {{kRouterWeight, at::zeros({2, 5}, real)},
                               {kRouterBias, at::zeros({2}, real)},
                               {kRouterMean, at::zeros({5}, real)},
                               {kRouterDeviation, at::ones({5}, real)}};
  NamedTensors whole = parts();
  whole.insert(router.begin(), router.end());
  EXPECT_NO_THROW(check_parts(shared, MemoryTensors(whole), "file"));
  const auto refusal = [&](const std::string& name, const at::Tensor& value) {
    NamedTensors all = whole;
    value.defined() ? void(all[name] = value) : void(all.erase(name));
    return input_error_of([&] { check_parts(shared, MemoryTensors(all), "file"); });
  };
  for (const char* name : {kRouterBias, kRouterMean, kRouterDeviation})
    EXPECT_THAT(refusal(name, {}), AllOf(HasSubstr(name), HasSubstr("is missing")));
  EXPECT_THAT(refusal(kRouterWeight, {}), HasSubstr("names no task"));
  EXPECT_THAT(refusal(kRouterWeight, at::zeros({5}, real)), HasSubstr("[tasks, features]"));
  EXPECT_THAT(refusal(kRouterBias, at::zeros({3}, real)), HasSubstr(kRouterBias));
  EXPECT_THAT(refusal(kRouterMean, at::zeros({5})), HasSubstr(kRouterMean));
}

TEST(TaskParts, RefuseAMaskWithBitsAfterItsEnd) {
  NamedTensors wrong = parts();
  wrong["left/fc.weight.mask"] = at::full({1}, 255, at::kByte);
  EXPECT_THAT(input_error_of([&] { with_part(MemoryTensors(kShared), MemoryTensors(wrong), "left", "fc.weight"); }),
              HasSubstr("after the last"));
}

}  // namespace
}  // namespace amalgam
