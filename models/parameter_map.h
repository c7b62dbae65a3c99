#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/tensor_source.h"

namespace amalgam {

/// Finds the parameter that a tensor is, or is a view of, by the memory it lies in. A weight reaches an operator as
/// itself, transposed, as a slice of a packed one, or as a detached or reshaped view: all have its storage.
class ParameterMap {
 public:
  struct Entry {
    std::string name;
    at::Tensor parameter;
  };

  explicit ParameterMap(const NamedTensors& parameters);

  /// The parameter that holds every element of `tensor`; null where there is none.
  const Entry* owner(const at::Tensor& tensor) const;
  /// Every parameter that has memory in common with `tensor`.
  std::vector<const Entry*> overlapping(const at::Tensor& tensor) const;

 private:
  std::unordered_map<const c10::StorageImpl*, std::vector<Entry>> entries_;
};

/// A range of rows.
struct RowSlice {
  int64_t begin = 0, end = 0;
};

/// The rows of `whole` that `view` is: the same memory, strides and trailing sizes.
/// @param whole [rows, ...]
/// @param view  [end - begin, ...]
std::optional<RowSlice> row_slice(const at::Tensor& whole, const at::Tensor& view);

/// The same memory, seen in the same way.
bool is_same_view(const at::Tensor& a, const at::Tensor& b);

}  // namespace amalgam
