#pragma once

#include <cstdint>
#include <functional>

#include "apps/terminal.h"
#include "core/batch.h"
#include "core/process_group.h"

namespace amalgam {

/// The batches of one pass over the data, shared out over processes in rounds: in a round each process has one batch,
/// and all are done with it before the next round begins. So at the end of a round the examples that all processes have
/// seen are a range, and that is when progress is saved and where a stop is heeded.
class CollectRounds final : public BatchSource {
 public:
  struct Options {
    int64_t batch = 1;             ///< examples
    int64_t total = 0;             ///< examples of the pass, those before `done` included
    int64_t done = 0;              ///< examples of an earlier, interrupted pass
    int64_t checkpoint_every = 0;  ///< examples; 0: only when stopped
  };
  /// @param own   this process's batches of the examples from `done` on: every size-th, from the rank-th on
  /// @param save  saves what all processes have seen; called alike in all, with the number of examples
  CollectRounds(BatchSource& own, const Options& options, const ProcessGroup& group, Progress& progress,
                std::function<void(int64_t done)> save);

  /// @throws Interrupted, in all processes, after saving, if one of them was asked to stop
  bool next(Batch& batch) override;
  void reset() override;
  int64_t examples() const override { return options_.total - options_.done; }

 private:
  void end_round();

  BatchSource& own_;
  Options options_;
  const ProcessGroup& group_;
  Progress& progress_;
  std::function<void(int64_t)> save_;
  bool in_round_ = false;
  int64_t done_, saved_;
};

/// Hands on messages only: `CollectRounds` says how far the work is, for all processes together.
class MessagesOnly final : public Progress {
 public:
  explicit MessagesOnly(Progress& progress) : progress_(progress) {}

  void begin(const std::string&, int64_t) override {}
  void update(int64_t, const std::string&) override {}
  void end(const std::string&) override {}
  void message(const std::string& text) override { progress_.message(text); }

 private:
  Progress& progress_;
};

}  // namespace amalgam
