#include "apps/scores.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "core/atomic_file.h"
#include "expect_error.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

ScoreLine line_of(const std::string& task, const std::string& metric, double value) {
  ScoreLine line;
  line.method = "average";
  line.task = task;
  line.split = "test";
  line.metric = metric;
  line.value = value;
  return line;
}

TEST(Scores, HaveAMeanWhereAllMetricsGoInOneDirection) {
  const auto higher = summarise({line_of("a", "accuracy", 0.5), line_of("b", "matthews", -0.25)}, {"a", "b"}, "test");
  EXPECT_EQ(higher[0].mean_value, 0.125);
  EXPECT_FALSE(higher[0].lower_is_better);
  const auto lower = summarise({line_of("a", "perplexity", 5), line_of("b", "perplexity", 10)}, {"a", "b"}, "test");
  EXPECT_EQ(lower[0].mean_value, 7.5);
  EXPECT_TRUE(lower[0].lower_is_better);
}

TEST(Scores, HaveNoMeanOfSomeThatAreBetterHigherAndSomeLower) {
  const auto mixed = summarise({line_of("a", "accuracy", 0.5), line_of("b", "perplexity", 10)}, {"a", "b"}, "test");
  EXPECT_EQ(mixed[0].values[1], 10.0);
  EXPECT_FALSE(mixed[0].mean_value.has_value());
  EXPECT_FALSE(mixed[0].lower_is_better);
}

TEST(Scores, KeepAnInfinitePerplexityInTheFile) {
  const TemporaryFolder folder;
  write_scores(folder / "scores.jsonl", {line_of("a", "perplexity", std::numeric_limits<double>::infinity())});
  EXPECT_TRUE(std::isinf(read_scores(folder / "scores.jsonl").at(0).value));
}

TEST(Scores, NameTheLineOfAMetricThatIsNotKnown) {
  const TemporaryFolder folder;
  write_scores(folder / "scores.jsonl", {line_of("a", "accuracy", 1), line_of("a", "acuracy", 1)});
  EXPECT_THAT(input_error_of([&] { read_scores(folder / "scores.jsonl"); }),
              AllOf(HasSubstr("scores.jsonl:2"), HasSubstr("'accuracy'")));
}

}  // namespace
}  // namespace amalgam
