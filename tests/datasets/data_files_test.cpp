#include "datasets/data_files.h"

#include <gtest/gtest.h>

#include "datasets/files.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

TEST(DataFiles, ReadEachFileSetOnceWhileItIsUsed) {
  const TemporaryFolder folder, other;
  for (const TemporaryFolder* root : {&folder, &other})
    for (const char* split : {"train", "val"}) write_idx_split(root->path(), split, 4, 2);
  DataFiles files;
  auto train = files.read(data_format("idx"), folder.path(), Split::kTrain);
  EXPECT_EQ(files.read(data_format("idx"), folder.path(), Split::kTrain), train);
  EXPECT_NE(files.read(data_format("idx"), folder.path(), Split::kVal), train);
  EXPECT_NE(files.read(data_format("idx"), other.path(), Split::kTrain), train);

  train.reset();
  write_idx_split(folder.path(), "train", 6, 2);
  EXPECT_EQ(files.read(data_format("idx"), folder.path(), Split::kTrain)->get().count(), 6);
}

TEST(StoredExamples, HaveADigestOfInputsTargetAndMask) {
  const auto digest = [](int64_t input, int64_t target, bool mask) {
    Examples examples;
    examples.inputs = {at::full({2, 3}, input, at::kByte)};
    examples.target = at::full({2, 3}, target, at::kLong);
    if (mask) examples.mask = at::ones({2, 3}, at::kBool);
    return StoredExamples(examples).digest();
  };
  EXPECT_EQ(digest(1, 1, true), digest(1, 1, true));
  EXPECT_NE(digest(2, 1, true), digest(1, 1, true));
  EXPECT_NE(digest(1, 2, true), digest(1, 1, true));
  EXPECT_NE(digest(1, 1, false), digest(1, 1, true));
}

}  // namespace
}  // namespace amalgam
