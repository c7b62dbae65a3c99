#include "solvers/read_ahead.h"

#include <gmock/gmock.h>

namespace amalgam {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

/// Notes what it is told to read ahead.
class NotedTensors final : public TensorSource {
 public:
  NotedTensors() {
    for (const char* name : {"a", "b", "c", "d", "e"}) infos_[name] = {at::kFloat, {25}};  // 100 bytes
  }

  const std::map<std::string, TensorInfo>& infos() const override { return infos_; }
  at::Tensor get(const std::string& name) const override { return at::zeros(infos_.at(name).shape); }
  void prefetch(const std::vector<std::string>& names) const override {
    const std::lock_guard lock(mutex_);
    noted_.insert(noted_.end(), names.begin(), names.end());
    changed_.notify_one();
  }

  /// Waits until there are as many.
  std::vector<std::string> noted(size_t count) const {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(10), [&] { return noted_.size() >= count; });
    return noted_;
  }

 private:
  std::map<std::string, TensorInfo> infos_;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  mutable std::vector<std::string> noted_;
};

const std::vector<std::string> kOrder{"a", "b", "c", "d", "e"};

TEST(ReadAhead, BeginsWhenTheFirstIsRead) {
  const NotedTensors tensors;
  { ReadAhead ahead({&tensors}, kOrder, 1e9); }
  EXPECT_THAT(tensors.noted(0), IsEmpty());
}

TEST(ReadAhead, StaysAsFarAheadAsItIsTold) {
  const NotedTensors one, two;
  {
    ReadAhead ahead({&one, &two}, kOrder, 400);
    ahead.reached("a");
    EXPECT_THAT(two.noted(2), ElementsAre("b", "c"));  // 200 bytes each
    ahead.reached("b");
    EXPECT_THAT(two.noted(3), ElementsAre("b", "c", "d"));
    ahead.reached("e");
  }
  EXPECT_THAT(one.noted(3), ElementsAre("b", "c", "d"));
}

TEST(ReadAhead, IsOneTensorAheadHoweverLargeItIs) {
  const NotedTensors tensors;
  ReadAhead ahead({&tensors}, kOrder, 1);
  ahead.reached("a");
  EXPECT_THAT(tensors.noted(1), ElementsAre("b"));
  ahead.reached("c");
  EXPECT_THAT(tensors.noted(2), ElementsAre("b", "d"));
}

TEST(ReadAhead, BeginsAnewWithEachPass) {
  const NotedTensors tensors;
  ReadAhead ahead({&tensors}, kOrder, 1);
  for (const char* name : {"d", "a"}) {
    ahead.reached(name);
    tensors.noted(name == std::string("d") ? 1 : 2);
  }
  EXPECT_THAT(tensors.noted(2), ElementsAre("e", "b"));
}

TEST(ReadAhead, LeavesOutWhatItDoesNotKnow) {
  const NotedTensors tensors;
  { ReadAhead({&tensors}, kOrder, 1e9).reached("other"); }
  { ReadAhead({&tensors}, {}, 1e9).reached("a"); }
  EXPECT_THAT(tensors.noted(0), IsEmpty());
}

}  // namespace
}  // namespace amalgam
