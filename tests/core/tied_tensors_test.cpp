#include "core/tied_tensors.h"

#include <gtest/gtest.h>

namespace amalgam {
namespace {

using Names = std::map<std::string, std::string>;

at::Tensor words() { return at::arange(6, at::kBFloat16).view({3, 2}); }

Names tied(const std::vector<NamedTensors>& models) {
  std::vector<MemoryTensors> sources(models.begin(), models.end());
  std::vector<const TensorSource*> borrowed;
  for (const auto& source : sources) borrowed.push_back(&source);
  return tied_tensors(borrowed);
}

TEST(TiedTensors, AreEqualInEveryModel) {
  const NamedTensors base = {{"embed", words()}, {"head", words()}, {"other", words() + 1}};
  const NamedTensors expert = {{"embed", words() * 2}, {"head", words() * 2}, {"other", words() * 2}};
  EXPECT_EQ(tied({base, expert}), (Names{{"head", "embed"}})) << "`other` is equal in the expert only";
}

TEST(TiedTensors, MayStandUnderOneNameOnlyInSomeModels) {
  const NamedTensors base = {{"model.embed", words()}}, expert = {{"head", words() * 2}, {"model.embed", words() * 2}};
  EXPECT_EQ(tied({base, expert}), (Names{{"head", "model.embed"}})) << "the name that all have, not the first one";
  EXPECT_EQ(tied({expert, base}), (Names{{"head", "model.embed"}}));
}

TEST(TiedTensors, AreNotThoseThatOneModelHasUntied) {
  const NamedTensors base = {{"embed", words()}, {"head", words()}};
  EXPECT_EQ(tied({base, {{"embed", words()}, {"head", words() + 1}}}), Names{});
  EXPECT_EQ(tied({{{"embed", words()}}, {{"embed", words()}, {"head", words() + 1}}}), Names{});
}

TEST(TiedTensors, HaveOneOwner) {
  const NamedTensors model = {{"a", words()}, {"b", words()}, {"c", words()}};
  EXPECT_EQ(tied({model}), (Names{{"b", "a"}, {"c", "a"}}));
}

TEST(TiedTensors, HaveOneDtypeAndShapeAndTwoAxes) {
  EXPECT_EQ(tied({{{"a", at::zeros({4, 2})}, {"b", at::zeros({2, 4})}, {"c", at::zeros({4, 2}, at::kInt)}}}), Names{});
  EXPECT_EQ(tied({{{"a", at::ones({4})}, {"b", at::ones({4})}}}), Names{}) << "norms are equal by chance";
  EXPECT_EQ(tied({{{"a", at::ones({0, 4})}, {"b", at::ones({0, 4})}}}), Names{});
}

}  // namespace
}  // namespace amalgam
