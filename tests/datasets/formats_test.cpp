#include "datasets/formats.h"

#include "expect_error.h"

namespace amalgam {
namespace {

using ::testing::HasSubstr;

TEST(Formats, AreFoundByTheirNames) {
  EXPECT_THAT(format_names(), ::testing::ElementsAre("idx", "tensors"));
  for (const auto& name : format_names()) EXPECT_EQ(data_format(name).name, name);
}

TEST(Formats, NameTheNearestOne) {
  EXPECT_THAT(input_error_of([] { data_format("tensor"); }), HasSubstr("'tensors'"));
}

}  // namespace
}  // namespace amalgam
