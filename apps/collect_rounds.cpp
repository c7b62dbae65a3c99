#include "apps/collect_rounds.h"

#include <algorithm>

#include "core/error.h"

namespace amalgam {

CollectRounds::CollectRounds(BatchSource& own, const Options& options, const ProcessGroup& group, Progress& progress,
                             std::function<void(int64_t)> save)
    : own_(own),
      options_(options),
      group_(group),
      progress_(progress),
      save_(std::move(save)),
      done_(options.done),
      saved_(options.done) {}

bool CollectRounds::next(Batch& batch) {
  if (in_round_) end_round();
  in_round_ = done_ < options_.total;
  if (!in_round_) return false;
  if (own_.next(batch)) return true;
  end_round();  // the last round, in which the other processes have batches and this one has none
  in_round_ = false;
  return false;
}

void CollectRounds::reset() { TORCH_CHECK(false, "examples are collected once"); }

void CollectRounds::end_round() {
  done_ = std::min(options_.total, done_ + options_.batch * group_.size());
  bool stopped = false;
  try {
    progress_.update(done_);
  } catch (const Interrupted&) {
    stopped = true;
  }
  stopped = group_.any(stopped);
  const bool is_due = options_.checkpoint_every > 0 && done_ - saved_ >= options_.checkpoint_every;
  if (stopped || (is_due && done_ < options_.total)) {
    save_(done_);
    saved_ = done_;
  }
  if (stopped) throw Interrupted();
}

}  // namespace amalgam
