#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "core/batch.h"
#include "core/random.h"

namespace amalgam {

/// Batches of tensors in memory, in their order or in a new random one after each reset.
class MemoryBatches final : public BatchSource {
 public:
  MemoryBatches(at::Tensor inputs, at::Tensor target, int64_t batch, bool shuffled = false)
      : inputs_(std::move(inputs)), target_(std::move(target)), batch_(batch), shuffled_(shuffled) {
    reset();
  }

  bool next(Batch& batch) override {
    if (begin_ >= examples()) return false;
    const at::Tensor rows = order_.slice(0, begin_, std::min(begin_ + batch_, examples()));
    begin_ += batch_;
    batch = Batch{};
    batch.inputs = {inputs_.index_select(0, rows)};
    batch.target = target_.index_select(0, rows);
    batch.ids = rows;
    batch.count = rows.size(0);
    return true;
  }
  void reset() override {
    begin_ = 0;
    order_ = at::arange(examples());
    if (shuffled_) order_ = at::tensor(RandomStream(7, "shuffle").permutation(examples(), resets_++));
  }
  int64_t examples() const override { return inputs_.size(0); }

 private:
  at::Tensor inputs_, target_, order_;
  int64_t batch_, begin_ = 0;
  bool shuffled_;
  uint64_t resets_ = 0;
};

/// One batch that holds `inputs`.
inline Batch batch_of(const at::Tensor& inputs) {
  Batch batch;
  batch.inputs = {inputs};
  batch.count = inputs.size(0);
  return batch;
}

}  // namespace amalgam
