#include "stats/verify.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "core/digest.h"
#include "stats/small_statistics.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

using namespace reference;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

using Change = std::function<void(StatisticsHeader&, NamedTensors&)>;

// What is found in statistics with that change, whose digest is right.
std::vector<std::string> findings(const Change& change) {
  StatisticsHeader header = small_header(0, 4);
  NamedTensors sums = small_sums(0, 4);
  change(header, sums);
  header.sums_digest = digest_of(MemoryTensors(sums));
  return verify_statistics(make(header, sums));
}

std::vector<std::string> findings(const std::string& name, const at::Tensor& sum) {
  return findings([&](auto&, auto& sums) { sums[name] = sum; });
}

at::Tensor matrix(std::vector<double> values, int64_t columns) {
  return at::tensor(values, at::kDouble).view({-1, columns});
}

at::Tensor count(int64_t rows) { return at::scalar_tensor(rows, at::kLong); }

TEST(VerifyStatistics, FindNothingInASavedFile) {
  const TemporaryFolder folder;
  small_statistics(0, 10).save(folder / "left.safetensors");
  EXPECT_THAT(verify_statistics(Statistics::load(folder / "left.safetensors")), IsEmpty());
}

TEST(VerifyStatistics, FindNothingInProductsOfSinglePrecisionWithEqualColumns) {
  const at::Tensor rows = random({1000, 1}, 1).to(at::kFloat).expand({1000, 3}).contiguous();
  const at::Tensor gram = rows.t().mm(rows).to(at::kDouble);
  EXPECT_THAT(findings([&](auto&, auto& sums) {
                sums["fc/input_gram"] = (gram + gram.t()) / 2;
                sums["fc/input_sum"] = rows.sum(0).to(at::kDouble);
                sums["fc/rows"] = sums["twin/rows"] = count(1000);
              }),
              IsEmpty());
}

TEST(VerifyStatistics, AllowSquaresThatSinglePrecisionLost) {
  // g = (1e-25, 1): in float32 g₀² is 0, and g₀ g₁ is not.
  EXPECT_THAT(findings("fc/output_gram", matrix({0, 1e-25, 1e-25, 1}, 2)), IsEmpty());
}

TEST(VerifyStatistics, FindASumThatWasChangedAfterItWasWritten) {
  StatisticsHeader header = small_header(0, 4);
  header.sums_digest = digest_of(MemoryTensors(small_sums(0, 4)));
  NamedTensors sums = small_sums(0, 4);
  sums["fc.bias/squared_gradient"] += 1;
  EXPECT_THAT(verify_statistics(make(header, sums)), ElementsAre(HasSubstr("changed after they were written")));
}

TEST(VerifyStatistics, FindThatTheyBelongToAnotherExpert) {
  StatisticsHeader header = small_header(0, 4);
  header.sums_digest = digest_of(MemoryTensors(small_sums(0, 4)));
  const Statistics statistics = make(header, small_sums(0, 4));
  EXPECT_THAT(verify_statistics(statistics, {.expert_digest = std::string(64, 'a')}), IsEmpty());
  EXPECT_THAT(verify_statistics(statistics, {.expert_digest = std::string(64, 'b')}),
              ElementsAre(AllOf(HasSubstr("another expert"), HasSubstr(std::string(64, 'a')))));
}

TEST(VerifyStatistics, FindValuesThatAreNotFinite) {
  const double inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(findings("fc/input_sum", at::tensor({inf, nan, 0.0}, at::kDouble)),
              ElementsAre("'fc/input_sum': 2 of its 3 values are not finite"));
  EXPECT_THAT(findings("fc/output_gram", at::full({2, 2}, nan, at::kDouble)), ElementsAre(HasSubstr("4 of its 4")));
}

TEST(VerifyStatistics, FindNegativeSquares) {
  EXPECT_THAT(findings("fc.bias/squared_gradient", at::tensor({1.0, -1e-9}, at::kDouble)),
              ElementsAre("'fc.bias/squared_gradient' is a sum of squares, and holds -1e-09"));
}

TEST(VerifyStatistics, FindNegativeDiagonals) {
  EXPECT_THAT(findings("fc/output_gram", matrix({1, 0, 0, -2}, 2)),
              ElementsAre("'fc/output_gram': its diagonal holds -2"));
}

TEST(VerifyStatistics, FindTheLastBitOfAnAsymmetry) {
  EXPECT_THAT(findings("twin/output_gram", matrix({9, 1, 1 + kFloat64Epsilon, 9}, 2)),
              ElementsAre(HasSubstr("'twin/output_gram': it is not symmetric, at row 0, column 1: 1 and 1")));
}

TEST(VerifyStatistics, FindElementsThatTheDiagonalDoesNotAllow) {
  EXPECT_THAT(findings("fc/output_gram", matrix({4, 6, 6, 9}, 2)), IsEmpty());
  EXPECT_THAT(findings("fc/output_gram", matrix({4, -6.01, -6.01, 9}, 2)),
              ElementsAre("'fc/output_gram': -6.01 at row 0, column 1 is more than its diagonal, 4 and 9, allows"));
}

TEST(VerifyStatistics, FindThemInEveryStripOfALargeMatrix) {
  const int64_t width = 600;
  for (const int64_t row : {0, 255, 256, 511, 512, 598}) {
    at::Tensor gram = at::eye(width, at::kDouble);
    gram[row][599] = gram[599][row] = 2;
    const auto found = findings([&](auto& header, auto& sums) {
      for (Layer& layer : header.layers.layers) layer.in = width;
      sums["fc/input_gram"] = gram;
      sums["fc/input_sum"] = at::zeros({width}, at::kDouble);
    });
    EXPECT_THAT(found, ElementsAre(HasSubstr("2 at row " + std::to_string(row) + ", column 599")));
  }
}

TEST(VerifyStatistics, FindMeansThatAreTooLargeForTheSquares) {
  // Eight rows with Σ a² = (8, 8, 0) have Σ a up to (8, 8, 0).
  const auto with_sum = [](std::vector<double> sum) {
    return findings([&](auto&, auto& sums) {
      sums["fc/input_gram"] = at::diag(at::tensor({8.0, 8.0, 0.0}, at::kDouble));
      sums["fc/input_sum"] = at::tensor(sum, at::kDouble);
    });
  };
  EXPECT_THAT(with_sum({8, -8, 0}), IsEmpty());
  EXPECT_THAT(with_sum({8, -8.1, 0}), ElementsAre(HasSubstr("'fc/input_sum': -8.1 at element 1")));
  EXPECT_THAT(with_sum({0, 0, 1e-9}), ElementsAre(HasSubstr("at element 2")));
}

TEST(VerifyStatistics, FindCountsThatCannotBe) {
  EXPECT_THAT(findings([](auto&, auto& sums) { sums["fc/rows"] = sums["twin/rows"] = count(-1); }),
              testing::Contains("'fc/rows' counts -1 rows"));
  EXPECT_THAT(findings("twin/rows", count(7)),
              ElementsAre("'twin/rows' is 7, but 'fc', which is fed the same tensor, has 8"));
}

TEST(VerifyStatistics, FindMoreReducedRowsThanExamples) {
  const auto with_rows = [](int64_t rows) {
    return findings([&](auto& header, auto& sums) {
      header.kinds = {StatisticKind::kReducedOutputGram};
      sums.clear();
      sums["fc/reduced_output_gram"] = sums["twin/reduced_output_gram"] = at::eye(2, at::kDouble);
      sums["fc/reduced_rows"] = sums["twin/reduced_rows"] = count(rows);
    });
  };
  EXPECT_THAT(with_rows(4), IsEmpty());
  EXPECT_THAT(with_rows(5), testing::Contains("'fc/reduced_rows' counts 5 examples, of 4 in the file's ranges"));
}

// Statistics of which the input Gram matrix is cut to blocks.
std::vector<std::string> findings_of_blocks(int64_t block, const at::Tensor& blocks) {
  return findings([&](auto& header, auto& sums) {
    header.blocks = {{"fc/input_gram", block}};
    sums["fc/input_gram"] = blocks;
    sums["fc/input_sum"] = at::ones({3}, at::kDouble);
  });
}

TEST(VerifyStatistics, LookIntoEveryBlock) {
  const at::Tensor right = at::tensor({2.0, 1.0, 1.0, 2.0, 3.0, 0.0, 0.0, 0.0}, at::kDouble).view({2, 2, 2});
  EXPECT_THAT(findings_of_blocks(2, right), IsEmpty());
  at::Tensor filled = right.clone();
  filled[1][1][1] = 1;
  EXPECT_THAT(findings_of_blocks(2, filled), ElementsAre(HasSubstr("block 1: what fills it up, from row 1 on")));
  at::Tensor wrong = right.clone();
  wrong[0][0][1] = 0;
  EXPECT_THAT(findings_of_blocks(2, wrong), ElementsAre(HasSubstr("group 0, block 0: it is not symmetric")));
}

TEST(VerifyStatistics, LookAtADiagonal) {
  EXPECT_THAT(findings_of_blocks(1, at::tensor({2.0, 1.0, 1.0}, at::kDouble)), IsEmpty());
  EXPECT_THAT(findings_of_blocks(1, at::tensor({2.0, 1.0, -1.0}, at::kDouble)), ElementsAre(HasSubstr("holds -1")));
  EXPECT_THAT(findings_of_blocks(1, at::tensor({2.0, 0.01, 1.0}, at::kDouble)), ElementsAre(HasSubstr("at element 1")));
}

}  // namespace
}  // namespace amalgam
