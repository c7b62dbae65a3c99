#include "apps/recipe_training.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "expect_error.h"

namespace amalgam {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

/// Forty examples, images or not.
class Forty final : public Dataset {
 public:
  explicit Forty(bool images) : images_(images) {}
  int64_t size() const override { return 40; }
  int64_t classes() const override { return 2; }
  bool holds_images() const override { return images_; }
  Batch get(const std::vector<int64_t>&) const override { return {}; }
  const std::string& digest() const override { return digest_; }

 private:
  bool images_;
  std::string digest_ = "forty";
};

TrainSpec spec_of(const std::string& yaml) {
  TrainSpec spec;
  read_options(spec, YAML::Load(yaml), "train");
  return spec;
}

TEST(RecipeTraining, NeedsAWholeBatch) {
  check_training_data(spec_of("{batch: 40}"), Forty(false), "t");
  EXPECT_THAT(input_error_of([] { check_training_data(spec_of("{batch: 41}"), Forty(false), "t"); }),
              AllOf(HasSubstr("t.batch: the 40 examples"), HasSubstr("one batch of 41")));
}

TEST(RecipeTraining, AugmentsImagesAlone) {
  const auto spec = spec_of("{batch: 8, augment: [{random_rotate: 5}]}");
  check_training_data(spec, Forty(true), "t");
  EXPECT_THAT(input_error_of([&] { check_training_data(spec, Forty(false), "t"); }),
              AllOf(HasSubstr("t.augment"), HasSubstr("images")));
}

}  // namespace
}  // namespace amalgam
