#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "core/batch.h"

namespace amalgam {

/// The inputs of several sources in one: each batch has one of each source that still has some, on one another. Batches
/// whose inputs do not fit on one another, padded to other lengths say, stay apart. Targets, masks and ids are left
/// out.
class MixedSource final : public BatchSource {
 public:
  explicit MixedSource(std::vector<std::unique_ptr<BatchSource>> sources) : sources_(std::move(sources)) {}

  bool next(Batch& batch) override;
  void reset() override;
  int64_t examples() const override;

 private:
  void add(Batch batch);

  std::vector<std::unique_ptr<BatchSource>> sources_;
  std::deque<Batch> ready_;
};

}  // namespace amalgam
