#include "datasets/mixed_source.h"

#include <algorithm>

namespace amalgam {
namespace {

bool fit(const at::Tensor& a, const at::Tensor& b) {
  return a.dim() > 0 && a.scalar_type() == b.scalar_type() && a.sizes().slice(1) == b.sizes().slice(1);
}

bool fit(const Batch& a, const Batch& b) {
  return std::ranges::equal(a.inputs, b.inputs, [](const auto& x, const auto& y) { return fit(x, y); }) &&
         std::ranges::equal(a.named_inputs, b.named_inputs,
                            [](const auto& x, const auto& y) { return x.first == y.first && fit(x.second, y.second); });
}

}  // namespace

bool MixedSource::next(Batch& batch) {
  if (ready_.empty())
    for (const auto& source : sources_)
      if (Batch own; source->next(own)) add(std::move(own));
  if (ready_.empty()) return false;
  batch = std::move(ready_.front());
  ready_.pop_front();
  return true;
}

void MixedSource::add(Batch batch) {
  batch.target = batch.mask = batch.ids = at::Tensor();
  for (Batch& other : ready_) {
    if (!fit(other, batch)) continue;
    for (size_t i = 0; i < batch.inputs.size(); ++i) other.inputs[i] = at::cat({other.inputs[i], batch.inputs[i]});
    for (auto& [name, input] : other.named_inputs) input = at::cat({input, batch.named_inputs.at(name)});
    other.count += batch.count;
    return;
  }
  ready_.push_back(std::move(batch));
}

void MixedSource::reset() {
  ready_.clear();
  for (const auto& source : sources_) source->reset();
}

int64_t MixedSource::examples() const {
  int64_t sum = 0;
  for (const auto& source : sources_) sum += source->examples();
  return sum;
}

}  // namespace amalgam
