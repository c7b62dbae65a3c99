#include "datasets/transforms.h"

#include <set>

#include "datasets/image_transforms.h"
#include "expect_error.h"

namespace amalgam {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TransformSequence parse(const std::string& list, uint64_t seed = 3, const std::string& label = "left/train") {
  TransformSequence transforms = parse_transforms(YAML::Load(list), "data.transforms");
  transforms.set_streams(seed, label);
  return transforms;
}

std::string error_of(const std::string& list) {
  return input_error_of([&] { parse(list); });
}

/// Every transform at work.
const std::string kAll =
    "[{rotate: 20}, {blur: 3}, {noise: 0.1}, {contrast: {scale: 2, offset: -1}}, {random_rotate: 30}, "
    "{random_contrast: [0.5, 2]}, {random_brightness: 0.2}, {random_noise: 0.3}]";

TEST(Transforms, AreAppliedInTheirOrder) {
  const at::Tensor x = at::full({1, 1, 1, 1}, 3.0);
  EXPECT_EQ(parse("[{contrast: {scale: 2}}, {contrast: {offset: 1}}]").apply(x, {0}).item<double>(), 7);
  EXPECT_EQ(parse("[{contrast: {offset: 1}}, {contrast: {scale: 2}}]").apply(x, {0}).item<double>(), 8);
}

TEST(Transforms, LeaveTheirInputAlone) {
  const at::Tensor x = at::rand({3, 2, 5, 4}), copy = x.clone();
  for (const auto& one : YAML::Load(kAll)) {
    YAML::Node list;
    list.push_back(one);
    parse_transforms(list, "").apply(x, {0, 1, 2});
    EXPECT_TRUE(at::equal(x, copy)) << one;
  }
}

TEST(Transforms, DoTheSameToAnExampleInWhateverBatch) {
  const TransformSequence all = parse(kAll);
  for (const int64_t size : {3, 28}) {
    const at::Tensor x = at::rand({7, 1, size, size});
    const std::vector<int64_t> ids = {12, 5, 0, 99, 4, 1'000'000, 7};
    const at::Tensor together = all.apply(x, ids, 2);
    for (size_t n = 0; n < ids.size(); ++n) {
      const auto row = static_cast<int64_t>(n);
      EXPECT_TRUE(at::equal(all.apply(x.narrow(0, row, 1), {ids[n]}, 2)[0], together[row])) << size << ' ' << n;
    }
  }
}

TEST(Transforms, DrawAnewForEachExampleEpochSeedLabelAndPlace) {
  const at::Tensor x = at::zeros({2, 1, 1, 1}, at::kDouble);
  std::set<double> seen;
  for (const auto& list : {"[{random_brightness: 1}]", "[{contrast: {}}, {random_brightness: 1}]"})
    for (const uint64_t seed : {1, 2})
      for (const auto& label : {"left", "right"})
        for (const int64_t epoch : {0, 1}) {
          const at::Tensor y = parse(list, seed, label).apply(x, {4, 5}, epoch);
          seen.insert(y[0].item<double>());
          seen.insert(y[1].item<double>());
        }
  EXPECT_EQ(seen.size(), 32u);
}

TEST(Transforms, NameTheNearestTransform) {
  EXPECT_THAT(error_of("[{blur: 3}, {rotat: 3}]"), AllOf(HasSubstr("data.transforms[1]"), HasSubstr("'rotate'")));
}

TEST(Transforms, RefuseValuesOutOfRange) {
  EXPECT_THAT(error_of("[{rotate: 400}]"), HasSubstr("data.transforms[0].rotate"));
  EXPECT_THAT(error_of("[{rotate: .nan}]"), HasSubstr("data.transforms[0].rotate"));
  EXPECT_THAT(error_of("[{rotate: left}]"), HasSubstr("'left'"));
  EXPECT_THAT(error_of("[{blur: 4}]"), HasSubstr("odd"));
  EXPECT_THAT(error_of("[{blur: 2.5}]"), HasSubstr("data.transforms[0].blur"));
  EXPECT_THAT(error_of("[{noise: -0.1}]"), HasSubstr("data.transforms[0].noise"));
  EXPECT_THAT(error_of("[{contrast: {scal: 2}}]"), HasSubstr("'scale'"));
  EXPECT_THAT(error_of("[{contrast: 2}]"), HasSubstr("data.transforms[0].contrast"));
  EXPECT_THAT(error_of("[{random_contrast: [2, 1]}]"), HasSubstr("low not above high"));
  EXPECT_THAT(error_of("[{random_contrast: [1]}]"), HasSubstr("[low, high]"));
  EXPECT_THAT(error_of("[{random_brightness: .inf}]"), HasSubstr("data.transforms[0].random_brightness"));
}

TEST(Transforms, RefuseAnotherShapeOfList) {
  EXPECT_THAT(error_of("{rotate: 34}"), HasSubstr("expected a list"));
  EXPECT_THAT(error_of("[rotate]"), HasSubstr("{rotate: 34}"));
  EXPECT_THAT(error_of("[{rotate: 34, blur: 3}]"), HasSubstr("one transform"));
  EXPECT_TRUE(parse("").empty());
  EXPECT_TRUE(parse("[]").empty());
}

TEST(Transforms, HaveOneIdentityIfTheyDoTheSame) {
  EXPECT_EQ(parse("[{rotate: 34.0}]").identity(), parse("- rotate: 34", 9, "right").identity());
  EXPECT_NE(parse("[{rotate: 34}]").identity(), parse("[{rotate: 35}]").identity());
  EXPECT_NE(parse("[{noise: 0.5}]", 1).identity(), parse("[{noise: 0.5}]", 2).identity());
  EXPECT_NE(parse("[{noise: 0.5}]", 1, "a").identity(), parse("[{noise: 0.5}]", 1, "b").identity());
}

TEST(Transforms, ComputeHalfPrecisionInFloat32) {
  const at::Tensor x = at::rand({2, 1, 5, 5}).to(at::kHalf);
  const TransformSequence blur = parse("[{blur: 3}]");
  const at::Tensor y = blur.apply(x, {0, 1});
  EXPECT_EQ(y.scalar_type(), at::kHalf);
  EXPECT_TRUE(at::equal(y, blur.apply(x.to(at::kFloat), {0, 1}).to(at::kHalf)));
}

TEST(Transforms, AreDescribedFromTheirDeclarations) {
  const auto described = describe_transforms();
  EXPECT_EQ(described.size(), image_transforms().size());
  for (const auto& transform : described) {
    EXPECT_TRUE(image_transforms().contains(transform.name)) << transform.name;
    EXPECT_FALSE(transform.help.empty());
  }
}

}  // namespace
}  // namespace amalgam
