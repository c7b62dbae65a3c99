// amalgam stats, on files of a small model's collector-made sums written by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apps/small_run.h"
#include "core/atomic_file.h"
#include "core/digest.h"
#include "core/safetensors.h"
#include "models/architectures/architecture.h"
#include "models/runner.h"
#include "stats/statistics.h"

namespace amalgam {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

/// One layer's statistics of the examples [begin, end), all of whose inputs are 1 and gradients are `gradient`.
Statistics statistics_of(int64_t begin, int64_t end, double gradient, const std::string& expert = "e") {
  const auto count = static_cast<double>(end - begin);
  Layer layer;
  layer.name = layer.input_of = "fc";
  layer.weight = "fc.weight";
  layer.bias = "fc.bias";
  layer.row_end = layer.out = 2;
  layer.in = 3;
  StatisticsHeader header;
  header.task = "left";
  header.loss = "cross_entropy";
  header.label_mode = "true";
  header.ranges = {{begin, end}};
  header.dtype = "float64";
  header.expert_digest = expert;
  header.data_digest = "d";
  header.kinds = {StatisticKind::kInputGram, StatisticKind::kOutputGram};
  header.layers.layers = {layer};
  header.parameter_shapes = {{"fc.weight", {2, 3}}, {"fc.bias", {2}}};
  return {header, std::make_shared<MemoryTensors>(
                      NamedTensors{{"fc/input_gram", at::full({3, 3}, count, at::kDouble)},
                                   {"fc/input_sum", at::full({3}, count, at::kDouble)},
                                   {"fc/output_gram", at::full({2, 2}, count * gradient * gradient, at::kDouble)},
                                   {"fc/rows", at::scalar_tensor(end - begin, at::kLong)}})};
}

class StatsCommand : public testing::Test {
 protected:
  std::string write(const std::string& name, const Statistics& statistics) const {
    return statistics.save(folder_ / (name + ".safetensors")).string();
  }
  static CommandResult call(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "stats");
    return call_command(arguments);
  }

  TemporaryFolder folder_;
};

TEST_F(StatsCommand, AddsShardsToTheFileOfAll) {
  const auto a = write("a", statistics_of(0, 4, 2)), b = write("b", statistics_of(4, 9, 2)),
             all = write("all", statistics_of(0, 9, 2)), sum = (folder_ / "sum.safetensors").string();
  const auto result = call({"add", b, a, "-o", sum});
  ASSERT_EQ(result.code, 0) << result.error;
  EXPECT_THAT(result.out, HasSubstr("task 'left', examples [0, 9), 9 in all"));
  EXPECT_EQ(read_file(sum), read_file(all));
  EXPECT_EQ(call({"diff", sum, all}).code, 0);
  EXPECT_EQ(call({"verify", sum}).code, 0);
}

TEST_F(StatsCommand, RefusesToAddWhatDoesNotBelongTogether) {
  const auto a = write("a", statistics_of(0, 4, 2)), b = write("b", statistics_of(3, 9, 2)),
             c = write("c", statistics_of(4, 9, 2, "another")), sum = (folder_ / "sum.safetensors").string();
  const auto overlap = call({"add", a, b, "-o", sum});
  EXPECT_EQ(overlap.code, 2);
  EXPECT_THAT(overlap.error, AllOf(HasSubstr(a), HasSubstr(b), HasSubstr("[0, 4) and [3, 9) overlap")));
  const auto other = call({"add", a, c, "-o", sum});
  EXPECT_EQ(other.code, 2);
  EXPECT_THAT(other.error, HasSubstr("'expert_digest' differ, e and another"));
  EXPECT_EQ(call({"add", a, "-o", sum}).code, 2);
  EXPECT_THAT(call({"add", a, c, "-o", "sum.pt"}).error, HasSubstr("ends in .safetensors"));
  EXPECT_FALSE(std::filesystem::exists(sum));
}

TEST_F(StatsCommand, ComparesWithinATolerance) {
  const auto a = write("a", statistics_of(0, 4, 2)), b = write("b", statistics_of(0, 4, 2.01));
  const auto result = call({"diff", a, b});
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.out, AllOf(HasSubstr("fc/output_gram"), HasSubstr("differs"), HasSubstr("0.00993")));
  EXPECT_THAT(result.error, HasSubstr("1 of 4 sums by more than 0, and 0 fields of the header"));
  EXPECT_EQ(call({"diff", a, b, "--tolerance", "0.01"}).code, 0);
  EXPECT_EQ(call({"diff", a, b, "--tolerance", "0.009"}).code, 1);
  EXPECT_EQ(call({"diff", a, b, "--tolerance=-1"}).code, 2);
}

TEST_F(StatsCommand, ShowsTheFieldsThatDiffer) {
  const auto a = write("a", statistics_of(0, 4, 2)), b = write("b", statistics_of(4, 8, 2));
  const auto result = call({"diff", a, b});
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.out, AllOf(HasSubstr("ranges"), HasSubstr("[0, 4)"), HasSubstr("[4, 8)")));
}

TEST_F(StatsCommand, InfoAndInspectSayWhatAFileHolds) {
  const auto a = write("a", statistics_of(2, 6, 2));
  const auto info = call({"info", a});
  EXPECT_EQ(info.code, 0) << info.error;
  EXPECT_THAT(info.out,
              AllOf(HasSubstr("task 'left': input_gram, output_gram"), HasSubstr("examples [2, 6), 4 in all"),
                    HasSubstr("loss cross_entropy, labels true"), HasSubstr("input_gram"), HasSubstr("96 B")));
  EXPECT_EQ(call_command({"inspect", a}).out, info.out);
}

TEST_F(StatsCommand, ReadsShardedFiles) {
  const auto whole = write("whole", statistics_of(2, 6, 2));
  const auto index = statistics_of(2, 6, 2).save(folder_ / "cut.safetensors", 64).string();
  ASSERT_THAT(index, HasSubstr(".index.json"));
  for (const auto& path : {index, (folder_ / "cut.safetensors").string()}) {
    EXPECT_EQ(call({"info", path}).out, call({"info", whole}).out);
    EXPECT_EQ(call_command({"inspect", path}).out, call({"info", whole}).out);
    EXPECT_EQ(call({"diff", path, whole}).code, 0);
    EXPECT_EQ(call({"verify", path}).code, 0);
  }
}

TEST_F(StatsCommand, VerifyNamesWhatIsWrong) {
  const auto path = write("a", statistics_of(0, 4, 2));
  auto bytes = read_file(path);
  bytes[bytes.size() - 1] = static_cast<char>(bytes[bytes.size() - 1] ^ 0x40);
  write_file(path, bytes);
  const auto result = call({"verify", path});
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.out, HasSubstr("changed after they were written"));
  EXPECT_THAT(result.error, AllOf(HasSubstr(path), HasSubstr("finding")));
}

TEST_F(StatsCommand, VerifyTellsWhoseStatisticsTheyAre) {
  const auto model = make_architecture("mlp", {}, {1, 2, 2}, 2, 1, at::kCPU);
  const auto expert = (folder_ / "expert.pt").string();
  model->save(expert);
  auto tensors = model->parameters();
  tensors.merge(model->buffers());
  const auto own = write("own", statistics_of(0, 4, 2, digest_of(MemoryTensors(tensors)))),
             other = write("other", statistics_of(0, 4, 2));
  const auto right = call({"verify", own, "--expert", expert}), wrong = call({"verify", other, "--expert", expert});
  EXPECT_EQ(right.code, 0) << right.out << right.error;
  EXPECT_EQ(wrong.code, 1);
  EXPECT_THAT(wrong.out, HasSubstr("another expert"));
}

TEST_F(StatsCommand, RefusesFilesThatAreNotStatistics) {
  const auto path = (folder_ / "t.safetensors").string();
  write_safetensors(path, NamedTensors{{"a", at::ones({2})}}, {});
  for (const char* command : {"info", "verify"}) {
    EXPECT_EQ(call({command, path}).code, 2);
    EXPECT_THAT(call({command, path}).error, AllOf(HasSubstr(path), HasSubstr("it is no statistics file")));
  }
  EXPECT_EQ(call({"info", (folder_ / "none.safetensors").string()}).code, 2);
  EXPECT_EQ(call({}).code, 2);
}

}  // namespace
}  // namespace amalgam
