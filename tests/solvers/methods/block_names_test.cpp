#include "solvers/methods/block_names.h"

#include <gmock/gmock.h>

#include "expect_error.h"

namespace amalgam {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(BlockNames, GoUpToTheFirstNumber) {
  EXPECT_EQ(numbered_prefix("encoder.layer.3.mlp.0.weight"), "encoder.layer.3.");
  EXPECT_EQ(numbered_prefix("0.weight"), "0.");
  EXPECT_EQ(numbered_prefix("conv1.weight"), "");
  EXPECT_EQ(numbered_prefix("norm.7"), "");  // no dot after it: a name, not a block
  EXPECT_EQ(stack_of("encoder.layer.3."), "encoder.layer.");
  EXPECT_EQ(stack_of("h12."), "h");
  EXPECT_EQ(stack_of("12."), "");
}

TEST(BlockNames, AreInTheOrderOfTheirNumbers) {
  EXPECT_THAT(blocks_of_stack({"h.10.w", "h.9.w", "h.9.b", "h.2.w", "head.w"}, ""),
              ElementsAre("h.2.", "h.9.", "h.10."));
}

TEST(BlockNames, AreOfTheLargestStackOrTheGivenOne) {
  const std::vector<std::string> names{"mlp.0.w", "mlp.1.w", "layer.0.w", "layer.0.b", "layer.1.w", "norm.w"};
  EXPECT_THAT(blocks_of_stack(names, ""), ElementsAre("layer.0.", "layer.1."));
  EXPECT_THAT(blocks_of_stack(names, "mlp."), ElementsAre("mlp.0.", "mlp.1."));
  EXPECT_THAT(blocks_of_stack(names, "layers."), IsEmpty());
  EXPECT_THAT(blocks_of_stack({"norm.w"}, ""), IsEmpty());
}

TEST(BlockNames, OfTwoStacksOfOneSizeAreRefused) {
  const std::vector<std::string> names{"a.0.w", "b.0.w", "b.1.w", "c.0.w", "c.1.w"};
  EXPECT_THAT(input_error_of([&] { blocks_of_stack(names, ""); }),
              testing::AllOf(HasSubstr("'b.'"), HasSubstr("'c.'"), HasSubstr("`stack`")));
}

}  // namespace
}  // namespace amalgam
