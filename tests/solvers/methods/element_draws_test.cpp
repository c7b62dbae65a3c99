#include "solvers/methods/element_draws.h"

#include <gtest/gtest.h>

#include <cmath>

namespace amalgam {
namespace {

TEST(ElementDraws, DependOnSeedAndNamesAlone) {
  const auto draws = [](uint64_t seed, const char* use, const char* task, const char* parameter) {
    return element_draws(seed, use, task, parameter, {3, 7});
  };
  const at::Tensor first = draws(1, "use", "task", "parameter");
  EXPECT_TRUE(at::equal(first, draws(1, "use", "task", "parameter")));
  EXPECT_FALSE(at::equal(first, draws(2, "use", "task", "parameter")));
  EXPECT_FALSE(at::equal(first, draws(1, "other", "task", "parameter")));
  EXPECT_FALSE(at::equal(first, draws(1, "use", "other", "parameter")));
  EXPECT_FALSE(at::equal(first, draws(1, "use", "task", "other")));
}

TEST(ElementDraws, AreOneAnElementWhateverTheShape) {
  const at::Tensor all = element_draws(1, "use", "task", "parameter", {70000});
  EXPECT_TRUE(at::equal(all.slice(0, 0, 21).view({3, 7}), element_draws(1, "use", "task", "parameter", {3, 7})));
  EXPECT_TRUE(at::equal(all.slice(0, 21, 70000), element_draws(1, "use", "task", "parameter", {69979}, 21)));
  EXPECT_EQ(element_draws(1, "use", "task", "parameter", {}).dim(), 0);
}

TEST(ElementDraws, AreUniform) {
  const int64_t n = 100000;
  const at::Tensor draws = element_draws(1, "use", "task", "parameter", {n});
  for (const double bound : {0.1, 0.5, 0.9}) {
    const double deviation = std::sqrt(bound * (1 - bound) / static_cast<double>(n));
    EXPECT_NEAR((draws < bound).to(at::kDouble).mean().item<double>(), bound, 5 * deviation);
  }
}

}  // namespace
}  // namespace amalgam
