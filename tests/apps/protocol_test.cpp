#include "apps/protocol.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "expect_error.h"

namespace amalgam {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Subsets = std::vector<std::vector<size_t>>;

TEST(DrawSubsets, TakesAllWhereThereAreNoMore) {
  EXPECT_EQ(draw_subsets({0, 2, 3}, {2}, 3, 7), (Subsets{{0, 2}, {0, 3}, {2, 3}}));
  EXPECT_EQ(draw_subsets({0, 2, 3}, {3}, 1, 7), (Subsets{{0, 2, 3}}));
  EXPECT_EQ(draw_subsets({0, 2, 3}, {1, 3}, 100, 7), (Subsets{{0}, {2}, {3}, {0, 2, 3}}));
}

TEST(DrawSubsets, DrawsDifferentOnesThatTheSeedAloneDecides) {
  const std::vector<size_t> experts = {0, 1, 2, 3, 4, 5, 6, 7};
  const auto drawn = draw_subsets(experts, {2, 5}, 10, 3);
  ASSERT_EQ(drawn.size(), 20U);
  EXPECT_EQ(std::set(drawn.begin(), drawn.end()).size(), 20U);
  for (size_t i = 0; i < drawn.size(); ++i) {
    EXPECT_EQ(drawn[i].size(), i < 10 ? 2U : 5U);
    EXPECT_TRUE(std::ranges::is_sorted(drawn[i]));
    EXPECT_EQ(std::set(drawn[i].begin(), drawn[i].end()).size(), drawn[i].size());
  }
  EXPECT_EQ(draw_subsets(experts, {2, 5}, 10, 3), drawn);
  EXPECT_NE(draw_subsets(experts, {2, 5}, 10, 4), drawn);
  auto fewer = drawn;
  fewer.erase(fewer.begin() + 6, fewer.begin() + 10);
  fewer.resize(12);
  EXPECT_EQ(draw_subsets(experts, {2, 5}, 6, 3), fewer);
}

/// Each expert is in half of the subsets of half the size, up to chance.
TEST(DrawSubsets, FavoursNoExpert) {
  const std::vector<size_t> experts = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
  std::vector<double> counts(12, 0);
  for (const auto& subset : draw_subsets(experts, {6}, 400, 11))
    for (const size_t expert : subset) ++counts[expert];
  for (const double count : counts) EXPECT_NEAR(count, 200, 5 * std::sqrt(400 * 0.25));
}

TEST(SubsetsOf, AreOfTheTasksThatAreNotHeldOut) {
  const std::vector<std::string> tasks = {"a", "b", "c", "d"};
  EXPECT_EQ(subsets_of({9, {2}, {"b"}}, tasks, 7), (Subsets{{0, 2}, {0, 3}, {2, 3}}));
  EXPECT_TRUE(subsets_of({}, tasks, 7).empty());
}

/// Of four tasks.
ProtocolSpec resolved(const std::string& yaml) {
  ProtocolSpec spec;
  read_options(spec, YAML::Load(yaml), "protocol");
  resolve_protocol(spec, {"a", "b", "c", "d"});
  return spec;
}

TEST(ResolveProtocol, FillsInTheSizes) {
  EXPECT_THAT(resolved("{subsets: 1}").sizes, ElementsAre(2, 3, 4));
  EXPECT_THAT(resolved("{subsets: 1, held_out: [b]}").sizes, ElementsAre(2, 3));
  EXPECT_THAT(resolved("{subsets: 1, sizes: [3, 1]}").sizes, ElementsAre(1, 3));
  EXPECT_TRUE(resolved("{}").sizes.empty()) << "none is asked for";
}

TEST(ResolveProtocol, RefusesWhatCannotBe) {
  const auto error = [](const std::string& yaml) { return input_error_of([&] { resolved(yaml); }); };
  EXPECT_THAT(error("{subsets: 1, held_out: [e]}"), HasSubstr("protocol.held_out: there is no task 'e'"));
  EXPECT_THAT(error("{subsets: 1, held_out: [a, a]}"), HasSubstr("twice"));
  EXPECT_THAT(error("{subsets: 1, held_out: [a, b, c]}"), HasSubstr("1 of 4 tasks are left to merge"));
  EXPECT_THAT(error("{subsets: 1, sizes: [4], held_out: [a]}"), HasSubstr("4 experts, and there are 3"));
  EXPECT_THAT(error("{subsets: 1, sizes: [2, 2]}"), HasSubstr("twice"));
  EXPECT_THAT(error("{sizes: [2]}"), HasSubstr("protocol.subsets"));
  EXPECT_THAT(error("{held_out: [a]}"), HasSubstr("protocol.subsets"));
}

}  // namespace
}  // namespace amalgam
