#include "apps/report_names.h"

#include <gtest/gtest.h>

namespace amalgam {
namespace {

TEST(ReportNames, CallABlockByItsNumberOrByTheLastName) {
  EXPECT_EQ(block_of("body.blocks.0.attention.query.weight"), "blocks.0");
  EXPECT_EQ(block_of("encoder.layer.11.output.dense"), "layer.11");
  EXPECT_EQ(block_of("head.bias"), "head");
  EXPECT_EQ(block_of("head"), "head");
  EXPECT_EQ(block_of("weight"), "weight");
}

}  // namespace
}  // namespace amalgam
