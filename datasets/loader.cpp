#include "datasets/loader.h"

#include <algorithm>
#include <limits>

#include "core/error.h"
#include "core/random.h"

namespace amalgam {

Loader::Loader(const Dataset& dataset, LoaderOptions options, TransformSequence augment)
    : dataset_(dataset), options_(std::move(options)), augment_(std::move(augment)) {
  const int64_t asked = options_.examples.value_or(std::numeric_limits<int64_t>::max());
  TORCH_CHECK(options_.batch > 0 && options_.first >= 0 && asked >= 0, "batches of ", options_.batch, " from example ",
              options_.first, ", ", asked, " of them");
  TORCH_CHECK(0 <= options_.part && options_.part < options_.parts, "part ", options_.part, " of ", options_.parts);
  require_input(augment_.empty() || dataset_.holds_images(),
                "{}: augmentation takes images, byte or floating [N, C, H, W], as the first input; leave `augment` out",
                options_.label);

  augment_.set_streams(options_.seed, options_.label + "/augment");

  const int64_t there = std::max<int64_t>(0, dataset_.size() - options_.first);
  order_.resize(static_cast<size_t>(std::min(asked, there)));
  examples_ = static_cast<int64_t>(order_.size());
  if (options_.drop_last) {
    require_input(examples_ >= options_.batch, "{}: {} examples do not fill one batch of {}; give a smaller batch",
                  options_.label, examples_, options_.batch);
    examples_ -= examples_ % options_.batch;
  }
  batches_ = examples_ / options_.batch + (examples_ % options_.batch > 0 ? 1 : 0);
  next_batch_ = options_.part;
  draw_order();
}

void Loader::draw_order() {
  const auto count = static_cast<int64_t>(order_.size());
  if (options_.drawn && !options_.shuffle) {
    const auto whole = RandomStream(options_.seed, options_.label + "/draw").permutation(dataset_.size());
    std::copy_n(whole.begin() + options_.first, count, order_.begin());
    return;
  }
  if (options_.shuffle) {
    order_ = RandomStream(options_.seed, options_.label + "/order").permutation(count, static_cast<uint64_t>(pass_));
  } else {
    for (int64_t i = 0; i < count; ++i) order_[static_cast<size_t>(i)] = i;
  }
  for (int64_t& id : order_) id += options_.first;
}

bool Loader::next(Batch& batch) {
  if (next_batch_ >= batches_) return false;
  const int64_t begin = next_batch_ * options_.batch, end = begin + std::min(options_.batch, examples_ - begin);
  const std::vector<int64_t> ids(order_.begin() + begin, order_.begin() + end);
  batch = dataset_.get(ids);
  if (!augment_.empty()) batch.inputs[0] = augment_.apply(batch.inputs[0], ids, pass_);
  next_batch_ += options_.parts;
  return true;
}

void Loader::reset() {
  ++pass_;
  next_batch_ = options_.part;
  draw_order();
}

}  // namespace amalgam
