#include "datasets/union_dataset.h"

#include "core/safetensors.h"
#include "datasets/files.h"
#include "expect_error.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// Twenty images of three classes, and seven of four.
struct TwoFolders {
  TwoFolders() {
    for (const auto* name : {"a", "b"}) std::filesystem::create_directory(folder / name);
    write_idx_split(folder / "a", "train", 20, 3);
    write_idx_split(folder / "b", "train", 7, 4);
  }
  std::unique_ptr<Dataset> open(const std::string& name, const std::string& more = "") const {
    DataSpec spec;
    read_options(spec, YAML::Load("{root: " + (folder / name).string() + ", val_fraction: 0" + more + "}"), "data");
    return open_dataset(spec, Split::kTrain, 5, name);
  }
  UnionDataset both(const std::string& of_b = "") const {
    std::vector<std::unique_ptr<Dataset>> parts;
    parts.push_back(open("a"));
    parts.push_back(open("b", of_b));
    return UnionDataset(std::move(parts), {"a", "b"});
  }
  TemporaryFolder folder;
};

TEST(UnionDataset, NumbersExamplesAndLabelsPartAfterPart) {
  const TwoFolders files;
  const auto all = files.both();
  EXPECT_EQ(all.size(), 27);
  EXPECT_EQ(all.classes(), 7);
  EXPECT_EQ(all.first_class(0), 0);
  EXPECT_EQ(all.first_class(1), 3);
  EXPECT_TRUE(all.holds_images());
  EXPECT_THAT(all.input_shape(), ElementsAre(1, 4, 3));
}

TEST(UnionDataset, GivesEachExampleAsItsPartDoesInTheOrderAskedFor) {
  const TwoFolders files;
  const auto all = files.both();
  const auto a = files.open("a"), b = files.open("b");
  const std::vector<int64_t> ids = {26, 0, 20, 19, 5, 20};
  const Batch batch = all.get(ids);
  EXPECT_EQ(batch.count, 6);
  EXPECT_TRUE(at::equal(batch.ids, at::tensor(ids, at::kLong)));
  EXPECT_FALSE(batch.mask.defined());
  for (size_t i = 0; i < ids.size(); ++i) {
    const bool second = ids[i] >= 20;
    const Batch one = second ? b->get({ids[i] - 20}) : a->get({ids[i]});
    const auto place = static_cast<int64_t>(i);
    EXPECT_TRUE(at::equal(batch.inputs.at(0)[place], one.inputs.at(0)[0])) << i;
    EXPECT_EQ(batch.target[place].item<int64_t>(), one.target[0].item<int64_t>() + (second ? 3 : 0)) << i;
  }
}

TEST(UnionDataset, HasADigestOfItsPartsInTheirOrder) {
  const TwoFolders files;
  EXPECT_EQ(files.both().digest(), files.both().digest());
  EXPECT_NE(files.both().digest(), files.both(", max_examples: 6").digest());
  std::vector<std::unique_ptr<Dataset>> parts;
  parts.push_back(files.open("b"));
  parts.push_back(files.open("a"));
  EXPECT_NE(UnionDataset(std::move(parts), {"b", "a"}).digest(), files.both().digest());
}

TEST(UnionDataset, RefusesImagesOfAnotherSizeUntilTheyAreResized) {
  const TwoFolders files;
  EXPECT_THAT(input_error_of([&] { files.both(", transforms: [{resize: 6}]"); }),
              AllOf(HasSubstr("b: an example is Float [1, 6, 6], one of a is Float [1, 4, 3]"), HasSubstr("resize")));
}

TEST(UnionDataset, RefusesTargetsThatAreNoClassesAndMasks) {
  const TwoFolders files;
  const auto refusal = [&](const NamedTensors& tensors) {
    std::filesystem::create_directory(files.folder / "c");
    write_safetensors(files.folder / "c" / "train.safetensors", tensors);
    std::vector<std::unique_ptr<Dataset>> parts;
    parts.push_back(files.open("c", ", format: tensors"));
    return input_error_of([&] { UnionDataset(std::move(parts), {"c"}); });
  };
  const at::Tensor input = at::zeros({4, 1, 4, 3}), labels = at::zeros({4}, at::kLong);
  EXPECT_THAT(refusal({{"input.0", input}, {"target", at::zeros({4})}}),
              HasSubstr("c: a union is of examples with one class"));
  EXPECT_THAT(refusal({{"input.x", input}, {"target", labels}}), HasSubstr("inputs by position and no mask"));
  EXPECT_THAT(refusal({{"input.0", input}, {"target", labels}, {"mask", at::zeros({4, 4}, at::kBool)}}),
              HasSubstr("inputs by position and no mask"));
}

}  // namespace
}  // namespace amalgam
