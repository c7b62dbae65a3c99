#include "apps/collect_rounds.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace amalgam {
namespace {

/// So many batches of `batch` examples.
class CountedBatches final : public BatchSource {
 public:
  CountedBatches(int64_t examples, int64_t batch) : examples_(examples), batch_(batch) {}

  bool next(Batch& batch) override {
    if (given_ >= examples_) return false;
    batch.count = std::min(batch_, examples_ - given_);
    given_ += batch.count;
    return true;
  }
  void reset() override {}
  int64_t examples() const override { return examples_; }

 private:
  int64_t examples_, batch_, given_ = 0;
};

/// Asks to stop when so many examples are done.
class StopsAt final : public Progress {
 public:
  explicit StopsAt(int64_t at) : at_(at) {}
  void begin(const std::string&, int64_t) override {}
  void update(int64_t done, const std::string&) override {
    if (at_ > 0 && done >= at_) throw Interrupted();
  }
  void end(const std::string&) override {}
  void message(const std::string&) override {}

 private:
  int64_t at_;
};

/// What was saved, and whether the rounds were stopped.
struct Outcome {
  std::vector<int64_t> saved;
  bool stopped = false;
  int64_t batches = 0;
};

Outcome run_rounds(const CollectRounds::Options& options, int64_t stop_at) {
  Outcome outcome;
  const ProcessGroup alone;
  StopsAt progress(stop_at);
  CountedBatches own(options.total - options.done, options.batch);
  CollectRounds rounds(own, options, alone, progress, [&](int64_t done) { outcome.saved.push_back(done); });
  try {
    for (Batch batch; rounds.next(batch);) ++outcome.batches;
  } catch (const Interrupted&) {
    outcome.stopped = true;
  }
  return outcome;
}

TEST(CollectRounds, SaveProgressWhenItIsDueButNotAtTheEnd) {
  const Outcome outcome = run_rounds({.batch = 3, .total = 20, .done = 0, .checkpoint_every = 5}, 0);
  EXPECT_EQ(outcome.saved, (std::vector<int64_t>{6, 12, 18}));
  EXPECT_EQ(outcome.batches, 7);
  EXPECT_FALSE(outcome.stopped);
}

TEST(CollectRounds, GoOnWhereAnEarlierPassWasStopped) {
  const Outcome outcome = run_rounds({.batch = 3, .total = 20, .done = 12, .checkpoint_every = 5}, 0);
  EXPECT_EQ(outcome.saved, (std::vector<int64_t>{18}));
  EXPECT_EQ(outcome.batches, 3);
  EXPECT_EQ(run_rounds({.batch = 3, .total = 20, .done = 20, .checkpoint_every = 5}, 0).batches, 0);
}

TEST(CollectRounds, SaveBeforeTheyStop) {
  const Outcome outcome = run_rounds({.batch = 3, .total = 20, .done = 0, .checkpoint_every = 0}, 7);
  EXPECT_TRUE(outcome.stopped);
  EXPECT_EQ(outcome.saved, (std::vector<int64_t>{9}));
  EXPECT_EQ(run_rounds({.batch = 3, .total = 20, .done = 0, .checkpoint_every = 0}, 20).saved,
            (std::vector<int64_t>{20}));
}

}  // namespace
}  // namespace amalgam
