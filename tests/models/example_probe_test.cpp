#include "models/example_probe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "expect_error.h"
#include "tests/models/tap_models.h"

namespace amalgam {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(RequireSeparateExamples, TellsBothLossesOfAModelThatUsesTheStatisticsOfTheBatch) {
  const Batch batch = test::make_batch({test::numbers({3, 4}, 1)}, 4, {3});
  const auto centred = [](const Batch& some) { return some.inputs[0] - some.inputs[0].mean(0, /*keepdim=*/true); };
  const double together = example_losses({}, centred(batch), batch.target)[0].item<double>();
  EXPECT_THAT(input_error_of([&] { require_separate_examples(centred, batch, {}); }),
              AllOf(HasSubstr("the loss of example 100"), HasSubstr(fmt::format("{} in a batch of 3", together)),
                    HasSubstr("1.386294361119890")));  // alone all outputs are 0: ln 4
}

TEST(RequireSeparateExamples, SeesASmallPartOfTheBatchInAnExample) {
  const Batch batch = test::make_batch({test::numbers({3, 4}, 1).to(at::kFloat)}, 4, {3});
  const auto mixed = [](const Batch& some) { return some.inputs[0] + 1e-2 * some.inputs[0].mean(0); };
  EXPECT_THAT(input_error_of([&] { require_separate_examples(mixed, batch, {}); }), HasSubstr("mixes"));
}

TEST(RequireSeparateExamples, LetsRoundingPass) {
  const at::Tensor weight = test::numbers({5, 1000}, 2).to(at::kFloat);
  for (const char* loss : {"cross_entropy", "binary_cross_entropy", "mean_squared_error"}) {
    Batch batch = test::make_batch({test::numbers({3, 1000}, 1).to(at::kFloat)}, 5, {3});
    if (std::string(loss) != "cross_entropy") batch.target = at::rand({3, 5});
    // The order of a product's terms as it may depend on the size of the batch.
    const auto run = [&](const Batch& some) {
      const at::Tensor x = some.inputs[0];
      return some.count == 1 ? at::linear(x.flip(1), weight.flip(1)) : at::linear(x, weight);
    };
    require_separate_examples(run, batch, loss);
  }
}

TEST(RequireSeparateExamples, SaysThatAModelDoesNotRunOnASingleExample) {
  const Batch batch = test::make_batch({test::numbers({3, 4}, 1)}, 4, {3});
  const auto run = [](const Batch& some) {
    require_input(some.count > 1, "the model wants two");
    return some.inputs[0];
  };
  EXPECT_THAT(input_error_of([&] { require_separate_examples(run, batch, {}); }),
              HasSubstr("does not run on a single example"));
}

}  // namespace
}  // namespace amalgam
