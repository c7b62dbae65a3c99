#include "datasets/tensors_dataset.h"

#include "core/safetensors.h"
#include "datasets/files.h"
#include "expect_error.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// Four sentences of five tokens.
NamedTensors sentences() {
  return {{"input.0", at::arange(20, at::kInt).view({4, 5})},
          {"input.1", at::rand({4, 5, 2}, at::kDouble)},
          {"target", at::tensor({3, 1, -1, 0}, at::kInt).view({4, 1}).expand({4, 5}).contiguous()},
          {"mask", at::tensor({1, 1, 0, 1}, at::kByte).view({4, 1}).expand({4, 5}).contiguous()}};
}

std::string error_of(const NamedTensors& tensors) {
  const TemporaryFolder folder;
  write_safetensors(folder / "train.safetensors", tensors);
  const std::string read = input_error_of([&] { tensors_format().read(folder.path(), Split::kTrain); });
  EXPECT_EQ(input_error_of([&] { tensors_format().check(folder.path(), Split::kTrain); }), read);
  EXPECT_THAT(read, HasSubstr((folder / "train.safetensors").string()));
  return read;
}

std::string error_with(const std::string& name, const at::Tensor& tensor) {
  NamedTensors tensors = sentences();
  tensors[name] = tensor;
  return error_of(tensors);
}

TEST(TensorsDataset, KeepsInputsAndMakesTargetsInt64AndMasksBool) {
  const TemporaryFolder folder;
  const NamedTensors tensors = sentences();
  write_safetensors(folder / "test.safetensors", tensors);
  EXPECT_TRUE(tensors_format().has(folder.path(), Split::kTest));
  EXPECT_FALSE(tensors_format().has(folder.path(), Split::kTrain));
  const Examples examples = tensors_format().read(folder.path(), Split::kTest);
  ASSERT_EQ(examples.inputs.size(), 2u);
  EXPECT_EQ(examples.count(), 4);
  for (size_t i = 0; i < 2; ++i) {
    const at::Tensor& written = tensors.at("input." + std::to_string(i));
    EXPECT_EQ(examples.inputs[i].scalar_type(), written.scalar_type());
    EXPECT_TRUE(at::equal(examples.inputs[i], written));
  }
  EXPECT_TRUE(at::equal(examples.target, tensors.at("target").to(at::kLong)));
  EXPECT_TRUE(at::equal(examples.mask, tensors.at("mask").to(at::kBool)));
}

TEST(TensorsDataset, NeedsNoMaskAndTakesFloatingTargets) {
  const TemporaryFolder folder;
  const at::Tensor target = at::rand({3, 2});
  write_safetensors(folder / "train.safetensors", {{"input.0", at::rand({3, 7})}, {"target", target}});
  const Examples examples = tensors_format().read(folder.path(), Split::kTrain);
  EXPECT_FALSE(examples.mask.defined());
  EXPECT_TRUE(at::equal(examples.target, target));
}

TEST(TensorsDataset, RefusesMissingAndUnknownTensors) {
  EXPECT_THAT(error_of({{"input.0", at::rand({3, 7})}}), HasSubstr("no tensor 'target'"));
  EXPECT_THAT(error_of({{"target", at::rand({3, 7})}}), HasSubstr("no tensor 'input.0'"));
  EXPECT_THAT(error_with("masks", at::ones({4, 5})), AllOf(HasSubstr("'masks'"), HasSubstr("'mask'")));
  EXPECT_THAT(error_with("input.3", at::ones({4, 5})), AllOf(HasSubstr("'input.3'"), HasSubstr("without a gap")));
}

TEST(TensorsDataset, RefusesSizesThatDisagree) {
  EXPECT_THAT(error_with("input.1", at::rand({5, 2})),
              AllOf(HasSubstr("'input.1'"), HasSubstr("[5, 2]"), HasSubstr("[4, 5]")));
  EXPECT_THAT(error_with("mask", at::ones({3, 5}, at::kBool)), HasSubstr("'mask'"));
}

TEST(TensorsDataset, RefusesEmptyTensorsAndScalars) {
  EXPECT_THAT(error_with("target", at::scalar_tensor(1, at::kLong)), HasSubstr("'target'"));
  EXPECT_THAT(error_with("input.0", at::rand({4, 0})), HasSubstr("'input.0'"));
}

TEST(TensorsDataset, RefusesAMaskThatIsFloatingOrNotOfPositions) {
  EXPECT_THAT(error_with("mask", at::ones({4, 5})), HasSubstr("expected bool or integers"));
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{4}, {4, 1, 5}})
    EXPECT_THAT(error_with("mask", at::ones(shape, at::kBool)),
                AllOf(HasSubstr("'mask' is bool ["), HasSubstr("[examples, positions]")));
}

TEST(TensorsDataset, RefusesAFileThatIsCutOff) {
  const TemporaryFolder folder;
  write_safetensors(folder / "train.safetensors", sentences());
  std::filesystem::resize_file(folder / "train.safetensors",
                               std::filesystem::file_size(folder / "train.safetensors") - 1);
  EXPECT_THAT(input_error_of([&] { tensors_format().check(folder.path(), Split::kTrain); }),
              HasSubstr((folder / "train.safetensors").string()));
  EXPECT_THAT(input_error_of([&] { tensors_format().check(folder.path(), Split::kTest); }),
              HasSubstr((folder / "test.safetensors").string()));
}

TEST(TensorsDataset, TakesInputsByName) {
  const TemporaryFolder folder;
  NamedTensors tensors = sentences();
  tensors["input.attention_mask"] = at::ones({4, 5}, at::kLong);
  tensors["input._x2"] = at::rand({4, 7});
  write_safetensors(folder / "train.safetensors", tensors);
  const Examples examples = tensors_format().read(folder.path(), Split::kTrain);
  EXPECT_EQ(examples.inputs.size(), 2u);
  ASSERT_EQ(examples.named_inputs.size(), 2u);
  EXPECT_TRUE(at::equal(examples.named_inputs.at("_x2"), tensors.at("input._x2")));
  write_safetensors(folder / "test.safetensors",
                    {{"input.ids", at::ones({4, 5})}, {"target", at::zeros({4}, at::kInt)}});
  EXPECT_TRUE(tensors_format().read(folder.path(), Split::kTest).inputs.empty());
}

TEST(TensorsDataset, RefusesAnInputThatNoArgumentCanBeCalled) {
  for (const std::string name : {"input.", "input.01", "input.a-b", "input.a.b", "inputs.a"})
    EXPECT_THAT(error_with(name, at::ones({4, 5})), AllOf(HasSubstr("'" + name + "'"), HasSubstr("input.<name>")));
}

}  // namespace
}  // namespace amalgam
