#include "datasets/data_spec.h"

#include "expect_error.h"

namespace amalgam {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

DataSpec parse(const std::string& text) {
  DataSpec spec;
  read_options(spec, YAML::Load(text), "tasks[0].data");
  return spec;
}

TEST(DataSpec, ReadsEveryKey) {
  const DataSpec spec = parse(
      "{format: tensors, root: /data, val_fraction: 0.2, classes: [3, 5], max_examples: 70, transforms: [{rotate: 34}, "
      "{blur: 5}]}");
  EXPECT_EQ(spec.format, "tensors");
  EXPECT_EQ(spec.root, "/data");
  EXPECT_EQ(spec.val_fraction, 0.2);
  EXPECT_THAT(spec.classes, ElementsAre(3, 5));
  EXPECT_EQ(spec.max_examples, 70);
  EXPECT_EQ(spec.transforms.size(), 2u);
}

TEST(DataSpec, DescribesItselfSoThatItCanBeReadAgain) {
  const DataSpec spec =
      parse("root: /data\nclasses: [3, 5]\ntransforms:\n  - rotate: 34\n  - contrast: {scale: 0.25}\n");
  const std::string line = describe(spec);
  EXPECT_EQ(
      line,
      "{format: idx, root: /data, val_fraction: 0.05, classes: [3, 5], max_examples: 0, mask: auto, trim_padding: "
      "false, transforms: [{rotate: 34}, {contrast: {scale: 0.25}}]}");
  EXPECT_EQ(describe(parse(line)), line);
}

TEST(DataSpec, RefusesWhatItDoesNotKnow) {
  EXPECT_THAT(input_error_of([] { parse("{rot: /data}"); }), HasSubstr("'root'"));
  EXPECT_THAT(input_error_of([] { parse("{format: idxx}"); }), HasSubstr("'idx'"));
  EXPECT_THAT(input_error_of([] { parse("{val_fraction: 1.0}"); }), HasSubstr("tasks[0].data.val_fraction"));
  EXPECT_THAT(input_error_of([] { parse("{classes: [-1]}"); }), HasSubstr("tasks[0].data.classes"));
}

}  // namespace
}  // namespace amalgam
