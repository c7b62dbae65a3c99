#include "apps/collect_task.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/atomic_file.h"
#include "core/digest.h"
#include "expect_error.h"
#include "temporary_folder.h"
#include "tests/apps/script_model.h"

namespace amalgam {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

/// Whose examples nobody asks for.
class NoExamples final : public Dataset {
 public:
  int64_t size() const override { return 0; }
  int64_t classes() const override { return 2; }
  bool holds_images() const override { return false; }
  Batch get(const std::vector<int64_t>&) const override { return {}; }
  const std::string& digest() const override { return digest_; }

 private:
  std::string digest_;
};

/// Work whose file and saved progress would each take what the disk has free.
class MakingRoom : public testing::Test {
 protected:
  MakingRoom() {
    options_.collector.place = "device";  // a GPU's: memory is not asked
    plan_.costs = {{.layer = "fc", .other = free_}};
    plan_.pass_bytes = {free_};
  }

  void make_room() {
    const CollectTask task{.model = *model_,
                           .scan = scan_,
                           .data = data_,
                           .parameters = parameters_,
                           .options = options_,
                           .loss = {},
                           .kinds = {},
                           .header = {},
                           .path = folder_ / "red.safetensors",
                           .identity = "this"};
    amalgam::make_room(task, plan_, ProcessGroup(), at::kCUDA);
  }
  /// Saved progress of this size, without blocks on the disk.
  fs::path saved(const std::string& identity, int64_t bytes) const {
    const auto key = digest_of(identity + "/" + std::to_string(free_)).substr(0, 16);
    const auto path = folder_ / ("red.work-" + key + "-1.unfinished.safetensors");
    write_file(path, "");
    fs::resize_file(path, static_cast<uintmax_t>(bytes));
    return path;
  }

  TemporaryFolder folder_;
  const int64_t free_ = static_cast<int64_t>(fs::space(folder_.path()).available);
  std::unique_ptr<ModelRunner> model_ =
      script_model({{"scale", at::ones({1})}}, "def forward(self, x):\n    return x * self.scale\n");
  ScanResult scan_;
  NoExamples data_;
  std::map<std::string, TensorInfo> parameters_;
  StatisticsSpec options_;
  CollectionPlan plan_;
};

TEST_F(MakingRoom, CountsWhatTheWorksOwnFilesTake) {
  EXPECT_THAT(input_error_of([&] { make_room(); }), HasSubstr("of disk while they are made"));
  const auto own = saved("this", free_ + free_ / 2);
  make_room();
  EXPECT_TRUE(fs::exists(own));
}

TEST_F(MakingRoom, RemovesWhatOtherWorkLeft) {
  const auto other = saved("other", free_ + free_ / 2);
  EXPECT_THAT(input_error_of([&] { make_room(); }), HasSubstr("of disk while they are made"));
  EXPECT_FALSE(fs::exists(other));
}

}  // namespace
}  // namespace amalgam
