#include "datasets/dataset.h"

#include <set>

#include "core/safetensors.h"
#include "datasets/files.h"
#include "expect_error.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

DataSpec spec_of(const TemporaryFolder& folder, const std::string& more = "") {
  DataSpec spec;
  read_options(spec, YAML::Load("{root: " + folder.path().string() + (more.empty() ? "" : ", " + more) + "}"), "data");
  return spec;
}

std::unique_ptr<Dataset> open(const DataSpec& spec, Split split = Split::kTrain, uint64_t seed = 5,
                              const std::string& label = "left") {
  return open_dataset(spec, split, seed, label);
}

std::vector<int64_t> all_ids(const Dataset& data) {
  std::vector<int64_t> ids;
  for (int64_t id = 0; id < data.size(); ++id) ids.push_back(id);
  return ids;
}

/// Which image of `write_idx_split` each example is, by its first pixel 7 n (n below 36).
std::vector<int64_t> image_numbers(const Dataset& data) {
  std::vector<int64_t> images;
  const Batch batch = data.get(all_ids(data));
  for (int64_t n = 0; n < data.size(); ++n)
    images.push_back(std::lround(batch.inputs.at(0)[n].flatten()[0].item<double>() * 255) / 7);
  return images;
}

std::vector<int64_t> targets(const Dataset& data) {
  const at::Tensor target = data.get(all_ids(data)).target;
  return {target.const_data_ptr<int64_t>(), target.const_data_ptr<int64_t>() + target.numel()};
}

/// 20 images of 3 classes to train on, 7 to validate, 8 to test.
struct Images {
  Images() {
    write_idx_split(folder.path(), "train", 20, 3);
    write_idx_split(folder.path(), "val", 7, 3);
    write_idx_split(folder.path(), "test", 8, 4);
  }
  TemporaryFolder folder;
};

TEST(Dataset, GivesBytesAsFloatsFromZeroToOne) {
  const Images images;
  const auto data = open(spec_of(images.folder));
  const Batch batch = data->get({4, 0, 4});
  EXPECT_EQ(batch.count, 3);
  EXPECT_TRUE(at::equal(batch.ids, at::tensor({4, 0, 4}, at::kLong)));
  EXPECT_TRUE(at::equal(batch.target, at::tensor({1, 0, 1}, at::kLong)));
  EXPECT_FALSE(batch.mask.defined());
  ASSERT_THAT(batch.inputs.at(0).sizes().vec(), ElementsAre(3, 1, 4, 3));
  for (const auto& [place, image] : {std::pair{0, 4}, {1, 0}, {2, 4}})
    for (int64_t p = 0; p < 12; ++p)
      EXPECT_EQ(batch.inputs[0][place].flatten()[p].item<float>(), static_cast<float>(7 * image + p) / 255.0f);
  EXPECT_THAT(data->input_shape(), ElementsAre(1, 4, 3));
}

TEST(Dataset, CountsClassesOverAllSplits) {
  const Images images;
  for (const Split split : {Split::kTrain, Split::kVal, Split::kTest})
    EXPECT_EQ(open(spec_of(images.folder), split)->classes(), 4);
}

TEST(Dataset, UsesValFilesWhereThereAre) {
  const Images images;
  const DataSpec spec = spec_of(images.folder, "val_fraction: 0.5");
  EXPECT_EQ(open(spec, Split::kTrain)->size(), 20);
  EXPECT_EQ(open(spec, Split::kVal)->size(), 7);
  EXPECT_EQ(open(spec, Split::kTest)->size(), 8);
}

TEST(Dataset, CutsValFromTrainWhereThereAreNoValFiles) {
  const TemporaryFolder folder;
  write_idx_split(folder.path(), "train", 20, 3);
  const DataSpec spec = spec_of(folder, "val_fraction: 0.25");
  const auto val = image_numbers(*open(spec, Split::kVal)), train = image_numbers(*open(spec, Split::kTrain));
  EXPECT_EQ(val.size(), 5u);
  EXPECT_EQ(train.size(), 15u);
  std::set<int64_t> all(val.begin(), val.end());
  all.insert(train.begin(), train.end());
  EXPECT_EQ(all.size(), 20u);
}

TEST(Dataset, CutsTheSameValForEachTaskAndChoiceOfClasses) {
  const TemporaryFolder folder;
  write_idx_split(folder.path(), "train", 20, 2);
  const auto val = image_numbers(*open(spec_of(folder, "val_fraction: 0.5"), Split::kVal, 5, "base"));
  const std::set<int64_t> known(val.begin(), val.end());
  const auto odd = image_numbers(*open(spec_of(folder, "val_fraction: 0.5, classes: [1]"), Split::kVal, 5, "left"));
  std::vector<int64_t> expected;
  for (const int64_t image : known)
    if (image % 2 == 1) expected.push_back(image);
  EXPECT_EQ(odd, expected);
  EXPECT_FALSE(odd.empty());
  EXPECT_NE(image_numbers(*open(spec_of(folder, "val_fraction: 0.5"), Split::kVal, 6)), val);
}

TEST(Dataset, SaysThatValCannotBeMade) {
  const TemporaryFolder folder;
  write_idx_split(folder.path(), "train", 20, 3);
  EXPECT_THAT(input_error_of([&] { open(spec_of(folder, "val_fraction: 0"), Split::kVal); }),
              HasSubstr("val_fraction is 0"));
  EXPECT_EQ(open(spec_of(folder, "val_fraction: 0"))->size(), 20);
}

TEST(Dataset, KeepsAndRelabelsClassesInTheOrderGiven) {
  const Images images;
  const auto data = open(spec_of(images.folder, "classes: [2, 0]"));
  EXPECT_EQ(data->classes(), 2);
  EXPECT_THAT(image_numbers(*data), ElementsAre(0, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18));
  EXPECT_THAT(targets(*data), ElementsAre(1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1));
}

TEST(Dataset, RefusesClassesThatDoNotOccurOrOccurTwice) {
  const Images images;
  EXPECT_THAT(input_error_of([&] { open(spec_of(images.folder, "classes: [1, 7]")); }), HasSubstr("label 7"));
  EXPECT_THAT(input_error_of([&] { open(spec_of(images.folder, "classes: [1, 1]")); }), HasSubstr("twice"));
  EXPECT_THAT(input_error_of([&] { open(spec_of(images.folder, "classes: [7]"), Split::kTest); }),
              HasSubstr("no example"));
}

TEST(Dataset, TakesTheFirstExamplesOfTheClasses) {
  const Images images;
  EXPECT_THAT(image_numbers(*open(spec_of(images.folder, "classes: [1], max_examples: 3"))), ElementsAre(1, 4, 7));
  EXPECT_EQ(open(spec_of(images.folder, "max_examples: 100"))->size(), 20);
}

TEST(Dataset, AppliesTransforms) {
  const Images images;
  const auto plain = open(spec_of(images.folder)),
             dim = open(spec_of(images.folder, "transforms: [{contrast: {scale: 0.5, offset: 0.25}}]"));
  EXPECT_TRUE(at::equal(dim->get({3, 5}).inputs.at(0), plain->get({3, 5}).inputs.at(0) * 0.5 + 0.25));
}

TEST(Dataset, DrawsTheSameNoiseForAnExampleWheneverItIsOpened) {
  const Images images;
  const DataSpec spec = spec_of(images.folder, "transforms: [{noise: 0.5}]");
  const at::Tensor together = open(spec)->get({0, 1, 2, 3}).inputs.at(0);
  EXPECT_TRUE(at::equal(open(spec)->get({2}).inputs.at(0)[0], together[2]));
  EXPECT_FALSE(at::equal(open(spec, Split::kTrain, 6)->get({2}).inputs.at(0)[0], together[2]));
  EXPECT_FALSE(at::equal(open(spec, Split::kTrain, 5, "right")->get({2}).inputs.at(0)[0], together[2]));
  EXPECT_FALSE(at::equal(open(spec, Split::kVal)->get({2}).inputs.at(0)[0], together[2]));  // the same image
}

TEST(Dataset, DigestTellsExamplesApartAndNotFolders) {
  const Images images, copy;
  const auto digest = [](const TemporaryFolder& folder, const std::string& more, Split split = Split::kTrain,
                         uint64_t seed = 5) { return open(spec_of(folder, more), split, seed)->digest(); };
  const std::string plain = digest(images.folder, "");
  EXPECT_EQ(plain.size(), 64u);
  EXPECT_EQ(digest(copy.folder, ""), plain);
  EXPECT_EQ(digest(images.folder, "", Split::kTrain, 6), plain);  // nothing is drawn
  EXPECT_EQ(digest(images.folder, "max_examples: 20"), plain);
  const std::set<std::string> others = {plain,
                                        digest(images.folder, "", Split::kVal),
                                        digest(images.folder, "max_examples: 19"),
                                        digest(images.folder, "classes: [1, 0, 2]"),
                                        digest(images.folder, "transforms: [{rotate: 34}]"),
                                        digest(images.folder, "transforms: [{noise: 0.5}]"),
                                        digest(images.folder, "transforms: [{noise: 0.5}]", Split::kTrain, 6)};
  EXPECT_EQ(others.size(), 7u);
  std::string labels(20, '\0');
  labels[7] = 1;
  write_bytes(copy.folder / "train-labels-idx1-ubyte.gz", gzip(idx({20}, labels)));
  EXPECT_NE(digest(copy.folder, ""), plain);
}

TEST(Dataset, IsTheSameWhenItSharesItsFilesWithOthers) {
  const Images images;
  DataFiles files;
  const auto pair = open_dataset(spec_of(images.folder, "classes: [2, 0]"), Split::kTrain, 5, "left", files);
  const auto all = open_dataset(spec_of(images.folder), Split::kTrain, 5, "left", files);
  EXPECT_EQ(targets(*all), targets(*open(spec_of(images.folder))));
  EXPECT_EQ(all->digest(), open(spec_of(images.folder))->digest());
  EXPECT_EQ(pair->digest(), open(spec_of(images.folder, "classes: [2, 0]"))->digest());
}

TEST(Dataset, RefusesAnExampleThatIsNotThere) {
  const Images images;
  EXPECT_THROW(open(spec_of(images.folder))->get({20}), c10::Error);
  EXPECT_THROW(open(spec_of(images.folder))->get({-1}), c10::Error);
}

/// Colour images as floats, with tensors of other shapes and types beside them.
struct Tensors {
  explicit Tensors(const NamedTensors& tensors) { write_safetensors(folder / "train.safetensors", tensors); }
  DataSpec spec(const std::string& more = "val_fraction: 0.5") const {
    return spec_of(folder, "format: tensors, " + more);
  }
  TemporaryFolder folder;
};

TEST(Dataset, HandsColourImagesOnAsTheyAre) {
  const at::Tensor images = at::rand({6, 3, 5, 4}) * 7 - 3;
  const Tensors files({{"input.0", images}, {"target", at::arange(6, at::kLong)}});
  for (const Split split : {Split::kTrain, Split::kVal}) {
    const auto data = open(files.spec(), split);
    EXPECT_EQ(data->size(), 3);
    EXPECT_EQ(data->classes(), 6);
    EXPECT_THAT(data->input_shape(), ElementsAre(3, 5, 4));
    const Batch batch = data->get(all_ids(*data));
    EXPECT_TRUE(at::equal(batch.inputs.at(0), images.index_select(0, batch.target)));
  }
}

TEST(Dataset, TransformsEachChannelOfColourImagesAlike) {
  const at::Tensor channel = at::rand({6, 1, 5, 4});
  const Tensors files({{"input.0", channel.repeat({1, 3, 1, 1})}, {"target", at::zeros({6}, at::kLong)}});
  const at::Tensor x = open(files.spec("transforms: [{rotate: 34}, {blur: 3}]"))->get({1, 2}).inputs.at(0);
  EXPECT_THAT(x.sizes().vec(), ElementsAre(2, 3, 5, 4));
  const Tensors grey({{"input.0", channel}, {"target", at::zeros({6}, at::kLong)}});
  const at::Tensor one = open(grey.spec("transforms: [{rotate: 34}, {blur: 3}]"))->get({1, 2}).inputs.at(0);
  for (int64_t c = 0; c < 3; ++c) EXPECT_TRUE(at::allclose(x.narrow(1, c, 1), one, 0, 4 * 1.2e-7)) << c;
}

TEST(Dataset, ScalesByteImagesAndNoOtherBytes) {
  const at::Tensor bytes = at::arange(6 * 8, at::kByte);
  const Tensors files(
      {{"input.0", bytes.view({6, 2, 2, 2})}, {"input.1", bytes.view({6, 8})}, {"target", at::rand({6})}});
  const auto data = open(files.spec("val_fraction: 0"));
  const Batch batch = data->get(all_ids(*data));
  EXPECT_TRUE(at::equal(batch.inputs.at(0), bytes.view({6, 2, 2, 2}).to(at::kFloat) / 255));
  EXPECT_TRUE(at::equal(batch.inputs.at(1), bytes.view({6, 8})));
  EXPECT_EQ(data->classes(), 0);
}

TEST(Dataset, PicksMaskAndTokensOfItsOwnRows) {
  const at::Tensor tokens = at::arange(60, at::kLong).view({20, 3}), mask = tokens % 7 != 0;
  at::Tensor target = tokens.clone();
  target.select(1, 0).fill_(-1);
  const Tensors files({{"input.0", tokens}, {"target", target}, {"mask", mask}});
  const auto data = open(files.spec("val_fraction: 0.5, max_examples: 4"));
  const Batch batch = data->get({3, 1});
  const at::Tensor rows = batch.inputs.at(0).select(1, 0) / 3;
  EXPECT_TRUE(at::equal(batch.mask, mask.index_select(0, rows.to(at::kLong))));
  EXPECT_TRUE(at::equal(batch.target, target.index_select(0, rows.to(at::kLong))));
  EXPECT_EQ(data->classes(), 60);
  EXPECT_EQ(data->digest(), open(files.spec("val_fraction: 0.5, max_examples: 4"))->digest());
  EXPECT_NE(data->digest(), open(files.spec("val_fraction: 0.5, max_examples: 5"))->digest());
}

TEST(Dataset, RefusesLabelsThatAreNone) {
  const auto error = [](const at::Tensor& target) {
    const Tensors files({{"input.0", at::rand({4, 2})}, {"target", target}});
    return input_error_of([&] { open(files.spec()); });
  };
  EXPECT_THAT(error(at::tensor({0, 1, -1, 2}, at::kLong)), AllOf(HasSubstr("example 2"), HasSubstr("label -1")));
  EXPECT_THAT(error(at::tensor({0, 1, 2, 2'000'000'000}, at::kLong)),
              AllOf(HasSubstr("example 3"), HasSubstr("2000000000")));
  EXPECT_THAT(error(at::tensor({0, 1, -1, -1, -1, 2'000'000, 1, 2}, at::kLong).view({4, 2})), HasSubstr("example 2 "));
}

TEST(Dataset, RefusesTransformsOfWhatIsNoImage) {
  const Tensors files({{"input.0", at::rand({4, 2})}, {"target", at::zeros({4}, at::kLong)}});
  EXPECT_THAT(input_error_of([&] { open(files.spec("transforms: [{blur: 3}]")); }), HasSubstr("[4, 2]"));
  EXPECT_THAT(input_error_of([&] { open(files.spec("classes: [1]")); }), HasSubstr("label 1"));
}

TEST(CheckData, PassesWhatCanBeOpened) {
  const Images images;
  check_data(spec_of(images.folder, "transforms: [{rotate: 34}]"), {Split::kTrain, Split::kVal, Split::kTest},
             "tasks[0].data");
  const Tensors files({{"input.0", at::rand({4, 2})}, {"target", at::zeros({4}, at::kLong)}});
  check_data(files.spec(), {Split::kTrain, Split::kVal}, "tasks[0].data");
}

TEST(CheckData, NamesTheKeyOrTheFile) {
  const Images images;
  const auto error = [](const DataSpec& spec, Split split = Split::kTrain) {
    return input_error_of([&] { check_data(spec, {split}, "tasks[0].data"); });
  };
  EXPECT_THAT(error({}), HasSubstr("tasks[0].data.root"));
  DataSpec nowhere;
  nowhere.root = "/nowhere/at/all";
  EXPECT_THAT(error(nowhere), AllOf(HasSubstr("tasks[0].data.root"), HasSubstr("/nowhere/at/all")));
  EXPECT_THAT(error(spec_of(images.folder, "transforms: [{blurr: 3}]")),
              AllOf(HasSubstr("tasks[0].data.transforms[0]"), HasSubstr("'blur'")));
  std::filesystem::resize_file(images.folder / "test-images-idx3-ubyte.gz", 40);
  EXPECT_THAT(error(spec_of(images.folder), Split::kTest), HasSubstr("test-images-idx3-ubyte.gz"));
}

/// Four examples of three tokens in a folder, with these tensors beside the tokens.
std::unique_ptr<Dataset> token_data(const TemporaryFolder& folder, const NamedTensors& tensors,
                                    const std::string& more = "") {
  NamedTensors all = tensors;
  all.emplace("input.tokens", at::arange(12).view({4, 3}));
  write_safetensors(folder / "train.safetensors", all);
  return open(spec_of(folder, "format: tensors, val_fraction: 0" + more));
}

const at::Tensor kTokenTarget = at::tensor({1, 2, -100, 0, -1, -1, 1, 1, 1, 2, 2, 0}, at::kLong).view({4, 3});
const at::Tensor kAttention = at::tensor({1, 1, 1, 1, 0, 0, 1, 1, 0, 1, 1, 1}, at::kLong).view({4, 3});

TEST(Dataset, HandsOnInputsByName) {
  const TemporaryFolder folder;
  const Batch batch = token_data(folder, {{"target", at::zeros({4}, at::kLong)}})->get({2, 0});
  EXPECT_TRUE(batch.inputs.empty());
  EXPECT_TRUE(at::equal(batch.named_inputs.at("tokens"), at::tensor({6, 7, 8, 0, 1, 2}, at::kLong).view({2, 3})));
  EXPECT_FALSE(batch.mask.defined());
}

TEST(Dataset, TakesTheRowsThatCountFromTheAttentionMaskElseFromTokenTargets) {
  const TemporaryFolder folder;
  const at::Tensor mask = at::tensor({1, 0, 0}, at::kByte).expand({4, 3}).contiguous();
  NamedTensors tensors = {{"target", kTokenTarget}};
  EXPECT_TRUE(at::equal(token_data(folder, tensors)->get({0, 1, 2}).mask, kTokenTarget.slice(0, 0, 3).ge(0)));
  tensors["input.attention_mask"] = kAttention;
  EXPECT_TRUE(at::equal(token_data(folder, tensors)->get({0, 1, 2}).mask, kAttention.slice(0, 0, 3).ne(0)));
  tensors["mask"] = mask;
  EXPECT_TRUE(at::equal(token_data(folder, tensors)->get({0, 1, 2}).mask, mask.slice(0, 0, 3).ne(0)));
  EXPECT_FALSE(token_data(folder, tensors, ", mask: none")->get({0, 1, 2}).mask.defined());
}

TEST(Dataset, TrimsPositionsThatCountInNoExampleOfABatch) {
  const TemporaryFolder folder;
  const at::Tensor tokens = at::arange(20, at::kLong).view({4, 5}) + 1, attention = at::zeros({4, 5}, at::kLong);
  for (const auto& [row, length] : {std::pair{0, 2}, {1, 3}, {2, 1}, {3, 5}})
    attention[row].slice(0, 0, length).fill_(1);
  const NamedTensors tensors = {{"input.input_ids", tokens},
                                {"input.attention_mask", attention},
                                {"input.0", at::rand({4, 7})},
                                {"target", at::zeros({4}, at::kLong)}};
  const auto trimmed = token_data(folder, tensors, ", trim_padding: true");
  const Batch batch = trimmed->get({1, 0});
  const at::Tensor rows = at::tensor({1, 0}, at::kLong);
  EXPECT_TRUE(at::equal(batch.named_inputs.at("input_ids"), tokens.index_select(0, rows).slice(1, 0, 3)));
  EXPECT_TRUE(at::equal(batch.named_inputs.at("attention_mask"), attention.index_select(0, rows).slice(1, 0, 3)));
  EXPECT_TRUE(at::equal(batch.mask, attention.index_select(0, rows).slice(1, 0, 3).ne(0)));
  EXPECT_EQ(batch.inputs.at(0).size(1), 7);  // no text
  EXPECT_EQ(trimmed->get({2, 3}).named_inputs.at("input_ids").size(1), 5);
  EXPECT_EQ(trimmed->get({2}).named_inputs.at("input_ids").size(1), 1);
  EXPECT_FALSE(token_data(folder, tensors, ", trim_padding: true, mask: none")->get({1}).mask.defined());
  EXPECT_EQ(token_data(folder, tensors)->get({2}).named_inputs.at("input_ids").size(1), 5);
  EXPECT_NE(trimmed->digest(), token_data(folder, tensors)->digest());
}

TEST(Dataset, LeavesOutAMaskThatKeepsAllRows) {
  const TemporaryFolder folder;
  EXPECT_FALSE(token_data(folder, {{"target", kTokenTarget}})->get({2, 3}).mask.defined());
}

TEST(Dataset, DigestTellsNamedInputsAndTheMaskApart) {
  const TemporaryFolder folder;
  const NamedTensors plain = {{"target", kTokenTarget}, {"input.a", kAttention}};
  const NamedTensors renamed = {{"target", kTokenTarget}, {"input.b", kAttention}};
  const std::set<std::string> digests = {token_data(folder, plain)->digest(), token_data(folder, renamed)->digest(),
                                         token_data(folder, plain, ", mask: none")->digest()};
  EXPECT_EQ(digests.size(), 3u);
}

TEST(Dataset, SaysThatThereIsNoInputByPositionForTransformsAndArchitectures) {
  const TemporaryFolder folder;
  const NamedTensors tensors = {{"target", kTokenTarget}};
  EXPECT_THAT(input_error_of([&] { token_data(folder, tensors, ", transforms: [{rotate: 3}]"); }),
              HasSubstr("input.0"));
  const auto data = token_data(folder, tensors);
  EXPECT_THAT(input_error_of([&] { data->input_shape(); }), HasSubstr("no input.0"));
  EXPECT_FALSE(data->holds_images());
}

}  // namespace
}  // namespace amalgam
