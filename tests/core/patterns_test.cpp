#include "core/patterns.h"

#include <gmock/gmock.h>

#include "expect_error.h"

namespace amalgam {
namespace {

TEST(Patterns, MatchWholeNamesAsAShellDoes) {
  EXPECT_TRUE(matches_any({"head.*"}, "head.weight"));
  EXPECT_TRUE(matches_any({"none", "*.bias"}, "body.blocks.0.bias"));
  EXPECT_TRUE(matches_any({"layer.?"}, "layer.1"));
  EXPECT_FALSE(matches_any({"head"}, "head.weight"));
  EXPECT_FALSE(matches_any({}, "head.weight"));
}

TEST(Patterns, ThatFitNothingAreNamedWithWhatThereIs) {
  const std::vector<std::string> names = {"body.weight", "body.bias", "head.weight", "head.bias", "scale", "shift"};
  require_matches("private", {"head.*", "s*"}, names);
  require_matches("private", {}, names);
  EXPECT_EQ(input_error_of([&] {
              require_matches("private", {"head.*", "neck.*"}, names);
            }),
            "private: nothing fits 'neck.*'; there are body.weight, body.bias, head.weight, head.bias and 2 more");
  EXPECT_EQ(input_error_of([&] {
              require_matches("private", {"shft"}, {"scale", "shift"});
            }),
            "private: nothing fits 'shft', did you mean 'shift'?; there are scale, shift");
}

}  // namespace
}  // namespace amalgam
