#include "stats/combine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "core/atomic_file.h"
#include "expect_error.h"
#include "stats/small_statistics.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

using namespace reference;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

StatisticsShard shard(int64_t begin, int64_t end) {
  return {"from" + std::to_string(begin), small_statistics(begin, end)};
}

void expect_equal_sums(const Statistics& actual, const NamedTensors& expected) {
  ASSERT_EQ(actual.sums().infos().size(), expected.size());
  for (const auto& [name, sum] : expected) EXPECT_TRUE(actual.sums().get(name).equal(sum)) << name;
}

// Why [0, 4) cannot be added to [4, 10) with a changed header.
std::string refusal(const std::function<void(StatisticsHeader&)>& change) {
  StatisticsHeader header = small_header(4, 10);
  change(header);
  const Statistics other = make(header, small_sums(4, 10));
  return input_error_of([&] { add_statistics({shard(0, 4), {"other", other}}); });
}

TEST(AddStatistics, GivesTheStatisticsOfAllExamples) {
  const Statistics all = add_statistics({shard(0, 3), shard(3, 4), shard(4, 10)});
  EXPECT_THAT(all.header().ranges, ElementsAre(ExampleRange{0, 10}));
  EXPECT_EQ(all.header().examples(), 10);
  expect_equal_sums(all, small_sums(0, 10));
}

TEST(AddStatistics, WritesTheVeryFileOfAllExamples) {
  const TemporaryFolder folder;
  add_statistics({shard(6, 10), shard(0, 6)}).save(folder / "sum.safetensors");
  small_statistics(0, 10).save(folder / "all.safetensors");
  EXPECT_EQ(read_file(folder / "sum.safetensors"), read_file(folder / "all.safetensors"));
}

TEST(AddStatistics, KeepsRangesApartThatDoNotMeet) {
  const Statistics some = add_statistics({shard(7, 9), shard(0, 2)});
  EXPECT_EQ(describe(some.header().ranges), "[0, 2), [7, 9)");
  EXPECT_EQ(some.header().examples(), 4);
}

TEST(AddStatistics, DoesNotDependOnTheOrderOfTheArguments) {
  // 1 + 2⁻⁵³ + 2⁻⁵³ is 1 in this order, and more where the small ones come first.
  const double small = kFloat64Epsilon / 2;
  const auto of = [&](int64_t begin, double value) {
    NamedTensors sums = small_sums(begin, begin + 1);
    sums["fc/input_sum"] = at::full({3}, value, at::kDouble);
    return StatisticsShard{"f", make(small_header(begin, begin + 1), sums)};
  };
  const auto first = of(0, 1), second = of(1, small), third = of(2, small);
  for (const auto& order : {std::vector{first, second, third}, std::vector{third, second, first},
                            std::vector{second, first, third}, std::vector{third, first, second}})
    EXPECT_EQ(add_statistics(order).sums().get("fc/input_sum")[0].item<double>(), 1);
}

TEST(AddStatistics, StaysInTheDtypeOfTheSums) {
  const auto of = [](int64_t begin, int64_t end) {
    StatisticsHeader header = small_header(begin, end);
    header.dtype = "float32";
    NamedTensors sums = small_sums(begin, end);
    for (auto& [name, sum] : sums)
      if (sum.is_floating_point()) sum = sum.to(at::kFloat);
    return StatisticsShard{"f", make(header, sums)};
  };
  const Statistics all = add_statistics({of(0, 5), of(5, 10)});
  for (const auto& [name, info] : all.sums().infos()) EXPECT_EQ(all.sums().get(name).scalar_type(), info.dtype) << name;
  EXPECT_TRUE(all.sums().get("fc/input_gram").equal(small_sums(0, 10)["fc/input_gram"].to(at::kFloat)));
}

TEST(AddStatistics, LeavesTheShardsAsTheyAre) {
  const StatisticsShard first = shard(0, 4);
  add_statistics({first, shard(4, 10)}).sums().get("fc/input_gram");
  expect_equal_sums(first.statistics, small_sums(0, 4));
}

TEST(AddStatistics, TakesASumThatAShardLacksForZero) {
  StatisticsHeader header = small_header(0, 4);
  header.unobserved = {"twin.weight: its layer 'twin' did not run", "scale: it meets an operator"};
  NamedTensors sums = small_sums(0, 4);
  for (const char* name : {"twin/rows", "twin/output_gram", "twin.weight/squared_gradient"}) sums.erase(name);
  StatisticsHeader other = small_header(4, 10);
  other.unobserved = {"scale: it meets an operator"};
  const Statistics all = add_statistics({{"a", make(header, sums)}, {"b", make(other, small_sums(4, 10))}});
  EXPECT_THAT(all.header().unobserved, ElementsAre("scale: it meets an operator"));
  EXPECT_TRUE(all.sums().get("twin/output_gram").equal(small_sums(4, 10)["twin/output_gram"]));
  EXPECT_TRUE(all.sums().get("fc/output_gram").equal(small_sums(0, 10)["fc/output_gram"]));
}

TEST(AddStatistics, LeavesOutSquaredGradientsOfWhichAShardMayHaveLostAPart) {
  // Two halves of one weight: the shard without its sum says that one of them did not run, and not what the other gave.
  const auto of = [](int64_t begin, int64_t end, bool whole) {
    StatisticsHeader header = small_header(begin, end);
    NamedTensors sums = small_sums(begin, end);
    Layer& twin = header.layers.layers[1];
    twin.weight = "fc.weight";
    twin.row_begin = 2;
    twin.row_end = 4;
    header.parameter_shapes = {{"fc.weight", {4, 3}}, {"fc.bias", {2}}};
    sums["fc.weight/squared_gradient"] = at::ones({4, 3}, at::kDouble);
    sums.erase("twin.weight/squared_gradient");
    if (!whole) {
      sums.erase("fc.weight/squared_gradient");
      header.unobserved = {"fc.weight: its layer 'twin' did not run"};
    }
    return StatisticsShard{"f", make(header, sums)};
  };
  const Statistics all = add_statistics({of(0, 4, true), of(4, 10, false)});
  EXPECT_FALSE(all.has_squared_gradient("fc.weight"));
  EXPECT_THAT(all.header().unobserved, ElementsAre(HasSubstr("fc.weight: it is part of several layers")));
  EXPECT_TRUE(all.has_squared_gradient("fc.bias"));
  EXPECT_TRUE(add_statistics({of(0, 4, true), of(4, 10, true)}).has_squared_gradient("fc.weight"));
  const TemporaryFolder folder;
  all.save(folder / "sum.safetensors");
  EXPECT_FALSE(Statistics::load(folder / "sum.safetensors").has_squared_gradient("fc.weight"));
}

TEST(AddStatistics, RefusesOverlappingRangesNamingBothFiles) {
  EXPECT_THAT(input_error_of([] {
                add_statistics({shard(0, 5), shard(4, 10)});
              }),
              AllOf(HasSubstr("'from0'"), HasSubstr("'from4'"), HasSubstr("[0, 5) and [4, 10) overlap")));
  EXPECT_THAT(input_error_of([] {
                add_statistics({shard(2, 4), shard(0, 2), shard(2, 4)});
              }),
              HasSubstr("[2, 4) and [2, 4) overlap"));
}

TEST(AddStatistics, RefusesEachFieldThatDiffersNamingBothValues) {
  EXPECT_THAT(refusal([](auto& header) { header.task = "right"; }),
              AllOf(HasSubstr("'from0' and 'other'"), HasSubstr("their 'task' differ, left and right")));
  EXPECT_THAT(refusal([](auto& header) { header.loss = "binary"; }), HasSubstr("'loss' differ, cross_entropy and bin"));
  EXPECT_THAT(refusal([](auto& header) { header.temperature = 2; }), HasSubstr("'temperature' differ, 1 and 2"));
  EXPECT_THAT(refusal([](auto& header) { header.label_mode = "exact"; }),
              HasSubstr("'label_mode' differ, true and ex"));
  EXPECT_THAT(refusal([](auto& header) { header.seed = 4; }), HasSubstr("'seed' differ, 3 and 4"));
  EXPECT_THAT(refusal([](auto& header) { header.dtype = "float32"; }),
              HasSubstr("'dtype' differ, float64 and float32"));
  EXPECT_THAT(refusal([](auto& header) { header.expert_digest = std::string(64, 'b'); }),
              HasSubstr("'expert_digest' differ, aaaaaaaaaaaa… and bbbbbbbbbbbb…"));
  EXPECT_THAT(refusal([](auto& header) { header.data_digest = std::string(64, 'c'); }),
              HasSubstr("'data_digest' differ, dddddddddddd… and cccccccccccc…"));
  EXPECT_THAT(refusal([](auto& header) { header.kinds.erase(StatisticKind::kInputGram); }),
              HasSubstr("input_gram, output_gram, squared_gradient and output_gram, squared_gradient;"));
  EXPECT_THAT(refusal([](auto& header) { header.layers.layers[1].out = 5; }),
              HasSubstr("'layers' differ, 'twin' with out 2 and 'twin' with out 5"));
  EXPECT_THAT(refusal([](auto& header) { header.parameter_shapes["fc.bias"] = {3}; }),
              HasSubstr("'parameter_shapes' differ, 'fc.bias' [2] and 'fc.bias' [3]"));
  EXPECT_THAT(refusal([](auto& header) { header.blocks["fc/input_gram"] = 2; }),
              HasSubstr("'blocks' differ, no 'fc/input_gram' and 'fc/input_gram' blocks of 2"));
}

TEST(AddStatistics, RefusesToAddNothing) {
  EXPECT_THAT(input_error_of([] { add_statistics({}); }), HasSubstr("no statistics"));
}

}  // namespace
}  // namespace amalgam
