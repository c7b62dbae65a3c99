#include "datasets/idx_dataset.h"

#include <cmath>

#include "datasets/files.h"
#include "expect_error.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string error_of(const TemporaryFolder& folder, Split split) {
  const std::string read = input_error_of([&] { idx_format().read(folder.path(), split); });
  EXPECT_EQ(input_error_of([&] { idx_format().check(folder.path(), split); }), read);
  return read;
}

TEST(IdxDataset, ReadsImagesWithOneChannelAndLabels) {
  const TemporaryFolder folder;
  write_idx_split(folder.path(), "train", 5, 3);
  idx_format().check(folder.path(), Split::kTrain);
  const Examples examples = idx_format().read(folder.path(), Split::kTrain);
  EXPECT_EQ(examples.count(), 5);
  EXPECT_THAT(examples.inputs.at(0).sizes().vec(), ElementsAre(5, 1, 4, 3));
  EXPECT_EQ(examples.inputs[0][4][0][3][2].item<int64_t>(), 7 * 4 + 11);
  EXPECT_TRUE(at::equal(examples.target, at::tensor({0, 1, 2, 0, 1}, at::kLong)));
}

TEST(IdxDataset, FindsTestFilesUnderBothNames) {
  for (const char* prefix : {"test", "t10k"}) {
    const TemporaryFolder folder;
    write_idx_split(folder.path(), prefix, 2, 2);
    EXPECT_TRUE(idx_format().has(folder.path(), Split::kTest));
    EXPECT_FALSE(idx_format().has(folder.path(), Split::kVal));
    EXPECT_EQ(idx_format().read(folder.path(), Split::kTest).count(), 2);
  }
}

TEST(IdxDataset, ReadsPlainFiles) {
  const TemporaryFolder folder;
  write_bytes(folder / "val-images-idx3-ubyte", idx({2, 4, 3}, pixels(2)));
  write_bytes(folder / "val-labels-idx1-ubyte", idx({2}, "\x01\x02"));
  EXPECT_TRUE(at::equal(idx_format().read(folder.path(), Split::kVal).target, at::tensor({1, 2}, at::kLong)));
}

TEST(IdxDataset, NamesTheFilesItLookedFor) {
  const TemporaryFolder folder;
  EXPECT_THAT(error_of(folder, Split::kTrain),
              AllOf(HasSubstr(folder.path().string()), HasSubstr("train-images-idx3-ubyte.gz")));
  write_idx_split(folder.path(), "val", 2, 2);
  std::filesystem::remove(folder / "val-labels-idx1-ubyte.gz");
  EXPECT_TRUE(idx_format().has(folder.path(), Split::kVal));
  EXPECT_THAT(error_of(folder, Split::kVal), HasSubstr("val-labels-idx1-ubyte"));
}

TEST(IdxDataset, RefusesImagesAndLabelsOfDifferentCounts) {
  const TemporaryFolder folder;
  write_idx_split(folder.path(), "train", 5, 3);
  write_bytes(folder / "train-labels-idx1-ubyte.gz", gzip(idx({4}, "abcd")));
  EXPECT_THAT(error_of(folder, Split::kTrain), AllOf(HasSubstr("holds 5 images"), HasSubstr("holds 4 labels")));
}

TEST(IdxDataset, ReadsDebiansFashionMnist) {
  const std::filesystem::path root = "/usr/share/datasets/fashion-mnist";
  if (!std::filesystem::exists(root)) GTEST_SKIP() << "the package dataset-fashion-mnist is not installed";
  for (const Split split : {Split::kTrain, Split::kTest}) {
    const int64_t count = split == Split::kTrain ? 60000 : 10000;
    idx_format().check(root, split);
    const Examples examples = idx_format().read(root, split);
    EXPECT_THAT(examples.inputs.at(0).sizes().vec(), ElementsAre(count, 1, 28, 28));
    EXPECT_TRUE(at::equal(examples.target.bincount(), at::full({10}, count / 10, at::kLong)));
    EXPECT_EQ(examples.target[0].item<int64_t>(), 9);  // both begin with an ankle boot
    if (split == Split::kTrain) {                      // mean and deviation as everybody publishes them
      const at::Tensor often = examples.inputs[0].flatten().bincount({}, 256).to(at::kDouble) / double(count * 784);
      const at::Tensor value = at::arange(256, at::kDouble) / 255;
      const double mean = often.dot(value).item<double>();
      EXPECT_NEAR(mean, 0.2860, 5e-5);
      EXPECT_NEAR(std::sqrt(often.dot(value * value).item<double>() - mean * mean), 0.3530, 5e-5);
    }
  }
}

TEST(IdxDataset, ReadsTheSharedImages) {
  std::filesystem::path above = AMALGAM_SOURCE_DIR;
  while (above.has_relative_path() && !std::filesystem::exists(above / "shared/data/images"))
    above = above.parent_path();
  const auto root = above / "shared/data/images";
  if (!std::filesystem::exists(root)) GTEST_SKIP() << "there is no shared/data/images above " << AMALGAM_SOURCE_DIR;
  const auto sizes = [&](const std::string& name) {
    std::vector<int64_t> counts;
    for (const Split split : {Split::kTrain, Split::kVal, Split::kTest}) {
      idx_format().check(root / name, split);
      counts.push_back(idx_format().read_target(root / name, split).size(0));
    }
    return counts;
  };
  EXPECT_THAT(sizes("mnist"), ElementsAre(20000, 2000, 10000));
  EXPECT_THAT(sizes("gtsrb"), ElementsAre(9503, 952, 4000));
  EXPECT_THAT(sizes("arabic_letters"), ElementsAre(12240, 1200, 3360));
}

}  // namespace
}  // namespace amalgam
