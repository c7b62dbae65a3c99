#include "solvers/read_ahead.h"

#include <algorithm>

#include "solvers/tensor_bytes.h"

namespace amalgam {

ReadAhead::ReadAhead(std::vector<const TensorSource*> sources, std::vector<std::string> order, double bytes)
    : sources_(std::move(sources)), order_(std::move(order)), bytes_(bytes), before_{0.0} {
  for (size_t i = 0; i < order_.size(); ++i) {
    position_[order_[i]] = i;
    double own = 0.0;
    for (const TensorSource* source : sources_) {
      const auto info = source->infos().find(order_[i]);
      if (info != source->infos().end()) own += bytes_of(info->second);
    }
    before_.push_back(before_.back() + own);
  }
  thread_ = std::thread([this] { run(); });
}

ReadAhead::~ReadAhead() {
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void ReadAhead::reached(const std::string& name) {
  const auto found = position_.find(name);
  if (found == position_.end()) return;
  {
    const std::lock_guard lock(mutex_);
    const bool begins_anew = found->second < at_;
    at_ = found->second;
    next_ = begins_anew ? at_ + 1 : std::max(next_, at_ + 1);
    reading_ = true;
  }
  changed_.notify_one();
}

void ReadAhead::run() {
  std::unique_lock lock(mutex_);
  const auto has_work = [this] {
    return reading_ && next_ < order_.size() && (next_ == at_ + 1 || before_[next_ + 1] - before_[at_ + 1] <= bytes_);
  };
  while (true) {
    changed_.wait(lock, [&] { return ended_ || has_work(); });
    if (ended_) return;
    const std::string& name = order_[next_++];
    lock.unlock();
    for (const TensorSource* source : sources_) source->prefetch({name});
    lock.lock();
  }
}

}  // namespace amalgam
