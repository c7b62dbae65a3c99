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

TEST(Scores, HaveTheMeanAndTheWorstOfTheNormalisedOnesOfAllTasks) {
  std::vector<ScoreLine> lines = {line_of("b", "accuracy", 0.25), line_of("a", "accuracy", 0.75),
                                  line_of("c", "accuracy", 0.5)};
  lines[0].normalised = 0.5;
  lines[1].normalised = 1.25;
  lines[2].normalised = 0.125;
  lines[2].split = "val";  // nothing of the test split's row
  const auto row = summarise(lines, {"a", "b"}, "test").at(0);
  EXPECT_EQ(row.values, (std::vector<std::optional<double>>{0.75, 0.25}));
  EXPECT_EQ(row.mean_normalised, 0.875);
  EXPECT_EQ(row.worst_normalised, 0.5);
  EXPECT_EQ(row.worst_task, "b");
  lines[2].split = "test";  // of a task that is not asked for
  EXPECT_EQ(summarise(lines, {"a", "b"}, "test").at(0).worst_task, "b");
  lines[1].normalised.reset();  // in one task of two: no figure to compare
  EXPECT_FALSE(summarise(lines, {"a", "b"}, "test").at(0).mean_normalised.has_value());
  EXPECT_FALSE(summarise(lines, {"a", "b"}, "test").at(0).worst_normalised.has_value());
}

TEST(Scores, ComeBackFromTheFileWhole) {
  const TemporaryFolder folder;
  ScoreLine line = line_of("a", "accuracy", 0.1);
  line.loss = 0.7;
  line.count = 90;
  line.normalised = 0.3;
  line.seconds = 2.5;
  line.options = "ab12";
  line.seed = 7;
  line.subset = "a+b";
  write_scores(folder / "scores.jsonl", {line, line_of("b", "matthews", -0.25)});
  const auto lines = read_scores(folder / "scores.jsonl");
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[0].method, "average");
  EXPECT_EQ(lines[0].task, "a");
  EXPECT_EQ(lines[0].split, "test");
  EXPECT_EQ(lines[0].metric, "accuracy");
  EXPECT_EQ(lines[0].value, 0.1);
  EXPECT_EQ(lines[0].loss, 0.7);
  EXPECT_EQ(lines[0].count, 90);
  EXPECT_EQ(lines[0].normalised, 0.3);
  EXPECT_EQ(lines[0].seconds, 2.5);
  EXPECT_EQ(lines[0].options, "ab12");
  EXPECT_EQ(lines[0].seed, 7);
  EXPECT_EQ(lines[0].subset, "a+b");
  EXPECT_EQ(lines[1].metric, "matthews");
  EXPECT_FALSE(lines[1].normalised.has_value());
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
