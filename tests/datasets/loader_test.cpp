#include "datasets/loader.h"

#include <algorithm>

#include "datasets/files.h"
#include "expect_error.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// Ten examples, image n of label n.
StoredDataset ten_examples() {
  Examples examples;
  examples.inputs = {at::arange(10, at::kByte).view({10, 1, 1, 1}).expand({10, 1, 6, 5}).contiguous()};
  examples.target = at::arange(10, at::kLong);
  const at::Tensor target = examples.target;
  return StoredDataset(std::make_shared<StoredExamples>(std::move(examples)), {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, target,
                       {}, 10);
}

using Batches = std::vector<std::vector<int64_t>>;

/// The ids of each batch of one pass.
Batches pass(Loader& loader) {
  Batches batches;
  Batch batch;
  while (loader.next(batch)) {
    EXPECT_TRUE(at::equal(batch.ids, batch.target));
    EXPECT_EQ(batch.count, batch.ids.numel());
    const at::Tensor bright = batch.ids.to(at::kFloat) / 255;
    EXPECT_TRUE(at::equal(batch.inputs.at(0), bright.view({-1, 1, 1, 1}).expand({-1, 1, 6, 5})));
    batches.emplace_back(batch.ids.const_data_ptr<int64_t>(), batch.ids.const_data_ptr<int64_t>() + batch.count);
  }
  return batches;
}

std::vector<int64_t> flat(const Batches& batches) {
  std::vector<int64_t> ids;
  for (const auto& batch : batches) ids.insert(ids.end(), batch.begin(), batch.end());
  return ids;
}

TEST(Loader, GoesThroughAllExamplesInOrder) {
  const StoredDataset data = ten_examples();
  Loader loader(data, {.batch = 4});
  EXPECT_EQ(loader.examples(), 10);
  const Batches expected = {{0, 1, 2, 3}, {4, 5, 6, 7}, {8, 9}};
  EXPECT_EQ(pass(loader), expected);
  EXPECT_EQ(pass(loader), Batches{});
  loader.reset();
  EXPECT_EQ(pass(loader), expected);
}

TEST(Loader, LeavesTheBatchAloneAtTheEnd) {
  const StoredDataset data = ten_examples();
  Loader loader(data, {.batch = 10});
  Batch batch;
  EXPECT_TRUE(loader.next(batch));
  EXPECT_FALSE(loader.next(batch));
  EXPECT_EQ(batch.count, 10);
}

TEST(Loader, TakesARangeOfExamples) {
  const StoredDataset data = ten_examples();
  Loader middle(data, {.batch = 2, .first = 3, .examples = 3});
  EXPECT_EQ(middle.examples(), 3);
  EXPECT_EQ(pass(middle), (Batches{{3, 4}, {5}}));
  Loader end(data, {.batch = 4, .first = 8, .examples = 1000});
  EXPECT_EQ(end.examples(), 2);
  EXPECT_EQ(pass(end), (Batches{{8, 9}}));
  Loader none(data, {.first = 10, .examples = 5});
  EXPECT_EQ(none.examples(), 0);
  EXPECT_EQ(pass(none), Batches{});
  Loader empty(data, {.first = 2, .examples = 0});
  EXPECT_EQ(pass(empty), Batches{});
}

TEST(Loader, ShufflesTheRangeAnewEachPass) {
  const StoredDataset data = ten_examples();
  const LoaderOptions options = {.batch = 3, .first = 2, .examples = 7, .shuffle = true, .seed = 1, .label = "left"};
  Loader loader(data, options), same(data, options);
  std::vector<std::vector<int64_t>> orders;
  for (int i = 0; i < 3; ++i) {
    orders.push_back(flat(pass(loader)));
    EXPECT_EQ(flat(pass(same)), orders.back());
    auto sorted = orders.back();
    std::sort(sorted.begin(), sorted.end());
    EXPECT_THAT(sorted, ElementsAre(2, 3, 4, 5, 6, 7, 8));
    loader.reset();
    same.reset();
  }
  EXPECT_NE(orders[0], orders[1]);
  EXPECT_NE(orders[1], orders[2]);
  LoaderOptions other = options;
  other.seed = 2;
  Loader other_seed(data, other);
  EXPECT_NE(flat(pass(other_seed)), orders[0]);
  other = options;
  other.label = "right";
  Loader other_label(data, other);
  EXPECT_NE(flat(pass(other_label)), orders[0]);
}

TEST(Loader, DropsALastBatchThatIsNotFull) {
  const StoredDataset data = ten_examples();
  Loader loader(data, {.batch = 4, .drop_last = true});
  EXPECT_EQ(loader.examples(), 8);
  EXPECT_EQ(pass(loader), (Batches{{0, 1, 2, 3}, {4, 5, 6, 7}}));
  EXPECT_THAT(input_error_of([&] { Loader(data, {.batch = 11, .drop_last = true}); }), HasSubstr("smaller batch"));
}

/// The batches of one pass of each of three parts, put back in turn.
Batches in_turn(const Dataset& data, LoaderOptions options, int passes) {
  std::vector<Batches> of_part;
  size_t count = 0;
  options.parts = 3;
  for (options.part = 0; options.part < options.parts; ++options.part) {
    Loader loader(data, options);
    for (int i = 0; i < passes; ++i) {
      pass(loader);
      loader.reset();
    }
    of_part.push_back(pass(loader));
    count += of_part.back().size();
    EXPECT_EQ(pass(loader), Batches{});
  }
  Batches all;
  for (size_t j = 0; j < count; ++j) all.push_back(of_part.at(j % 3).at(j / 3));
  return all;
}

TEST(Loader, GivesEachPartItsBatchesOfOnePass) {
  const StoredDataset data = ten_examples();
  EXPECT_EQ(in_turn(data, {.batch = 2}, 0), (Batches{{0, 1}, {2, 3}, {4, 5}, {6, 7}, {8, 9}}));
  Loader last(data, {.batch = 2, .part = 2, .parts = 3});
  EXPECT_EQ(pass(last), (Batches{{4, 5}}));
  Loader second(data, {.batch = 3, .part = 1, .parts = 2});
  EXPECT_EQ(pass(second), (Batches{{3, 4, 5}, {9}}));
}

TEST(Loader, PartsGoInTheOrderOfTheWholeWhateverTheOptions) {
  const StoredDataset data = ten_examples();
  for (const int64_t batch : {1, 2, 3, 4, 9, 10, 11})
    for (const bool shuffle : {false, true})
      for (const bool drawn : {false, true})
        for (const bool drop_last : {false, true})
          for (const int passes : {0, 2}) {
            if (drop_last && batch > 9) continue;  // refused: not one batch is full
            const LoaderOptions options = {.batch = batch,
                                           .first = 1,
                                           .shuffle = shuffle,
                                           .drawn = drawn,
                                           .drop_last = drop_last,
                                           .seed = 5,
                                           .label = "left"};
            Loader whole(data, options);
            for (int i = 0; i < passes; ++i) whole.reset();
            EXPECT_EQ(in_turn(data, options, passes), pass(whole))
                << "batch " << batch << ", shuffle " << shuffle << ", drawn " << drawn << ", drop_last " << drop_last;
          }
}

TEST(Loader, CountsTheWholePassInEachPart) {
  const StoredDataset data = ten_examples();
  for (const int64_t part : {0, 1, 2, 3, 4, 5, 6}) {
    Loader loader(data, {.batch = 3, .part = part, .parts = 7});
    EXPECT_EQ(loader.examples(), 10);
    EXPECT_EQ(loader.batches(), 4);
    EXPECT_EQ(pass(loader).size(), part < 4 ? 1U : 0U);
  }
  Loader dropped(data, {.batch = 3, .drop_last = true, .part = 1, .parts = 2});
  EXPECT_EQ(dropped.examples(), 9);
  EXPECT_EQ(dropped.batches(), 3);
  EXPECT_EQ(Loader(data, {.first = 10}).batches(), 0);
}

TEST(Loader, AugmentsAnExampleAlikeInEveryPart) {
  const StoredDataset data = ten_examples();
  const auto images = [&](int64_t parts) {
    at::Tensor all = at::zeros({10, 1, 6, 5});
    for (int64_t part = 0; part < parts; ++part) {
      Loader loader(data, {.batch = 2, .shuffle = true, .part = part, .parts = parts, .seed = 3},
                    parse_transforms(YAML::Load("[{random_rotate: 30}, {random_noise: 0.2}]"), "augment"));
      Batch batch;
      loader.reset();
      while (loader.next(batch)) all.index_copy_(0, batch.ids, batch.inputs.at(0));
    }
    return all;
  };
  EXPECT_TRUE(at::equal(images(3), images(1)));
}

TEST(Loader, RefusesAPartThatIsNone) {
  const StoredDataset data = ten_examples();
  EXPECT_THROW(Loader(data, {.part = 2, .parts = 2}), c10::Error);
  EXPECT_THROW(Loader(data, {.part = -1, .parts = 2}), c10::Error);
  EXPECT_THROW(Loader(data, {.part = 0, .parts = 0}), c10::Error);
}

TEST(Loader, DrawsAugmentationAnewEachPassWhateverTheBatch) {
  const StoredDataset data = ten_examples();
  const auto images = [&](int64_t batch_size, int passes, bool shuffle) {
    Loader loader(data, {.batch = batch_size, .shuffle = shuffle, .seed = 3},
                  parse_transforms(YAML::Load("[{random_rotate: 30}, {random_noise: 0.2}]"), "augment"));
    for (int i = 0; i < passes; ++i) loader.reset();
    at::Tensor all = at::zeros({10, 1, 6, 5});
    Batch batch;
    while (loader.next(batch)) all.index_copy_(0, batch.ids, batch.inputs.at(0));
    return all;
  };
  const at::Tensor first = images(10, 0, false);
  EXPECT_TRUE(at::equal(images(3, 0, false), first));
  EXPECT_TRUE(at::equal(images(4, 0, true), first));
  EXPECT_FALSE(at::equal(images(10, 1, false), first));
}

TEST(Loader, RefusesToAugmentWhatIsNoImage) {
  Examples examples;
  examples.inputs = {at::rand({4, 3})};
  examples.target = at::arange(4, at::kLong);
  const at::Tensor target = examples.target;
  const StoredDataset data(std::make_shared<StoredExamples>(std::move(examples)), {0, 1, 2, 3}, target, {}, 4);
  EXPECT_THAT(input_error_of([&] { Loader(data, {}, parse_transforms(YAML::Load("[{blur: 3}]"), "augment")); }),
              HasSubstr("augment"));
}

}  // namespace
}  // namespace amalgam
