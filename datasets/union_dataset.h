#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/batch.h"
#include "datasets/dataset.h"

namespace amalgam {

/// Several sets of classified examples as one, for a classifier of all of them: the examples of each part after those
/// of the part before, and so are its labels numbered: label y of part p is first_class(p) + y.
class UnionDataset final : public Dataset {
 public:
  /// @param names  of the parts, for messages
  /// @throws InputError unless all have class labels [N], inputs by position alone, as many, of one shape and dtype,
  ///         and no masks
  UnionDataset(std::vector<std::unique_ptr<Dataset>> parts, const std::vector<std::string>& names);

  int64_t size() const override { return first_example_.back(); }
  int64_t classes() const override { return first_class_.back(); }
  bool holds_images() const override;
  Batch get(const std::vector<int64_t>& ids) const override;
  const std::string& digest() const override;

  /// The number that label 0 of a part has here.
  int64_t first_class(size_t part) const { return first_class_.at(part); }

 private:
  std::vector<std::unique_ptr<Dataset>> parts_;
  std::vector<int64_t> first_example_ = {0}, first_class_ = {0};  // of each part; the last is the sum
  mutable std::once_flag digest_made_;
  mutable std::string digest_;
};

}  // namespace amalgam
