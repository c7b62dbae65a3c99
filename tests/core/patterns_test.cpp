#include "core/patterns.h"

#include <gtest/gtest.h>

namespace amalgam {
namespace {

TEST(Patterns, MatchWholeNamesAsAShellDoes) {
  EXPECT_TRUE(matches_any({"head.*"}, "head.weight"));
  EXPECT_TRUE(matches_any({"none", "*.bias"}, "body.blocks.0.bias"));
  EXPECT_TRUE(matches_any({"layer.?"}, "layer.1"));
  EXPECT_FALSE(matches_any({"head"}, "head.weight"));
  EXPECT_FALSE(matches_any({}, "head.weight"));
}

}  // namespace
}  // namespace amalgam
