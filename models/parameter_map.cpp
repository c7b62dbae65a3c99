#include "models/parameter_map.h"

namespace amalgam {
namespace {

/// Elements of the storage from the first to behind the last one that the tensor reaches.
struct Extent {
  int64_t begin = 0, end = 0;
};

Extent extent_of(const at::Tensor& tensor) {
  int64_t last = 0;
  for (int64_t i = 0; i < tensor.dim(); ++i) {
    if (tensor.size(i) == 0) return {tensor.storage_offset(), tensor.storage_offset()};
    last += (tensor.size(i) - 1) * tensor.stride(i);
  }
  return {tensor.storage_offset(), tensor.storage_offset() + last + 1};
}

const c10::StorageImpl* storage_of(const at::Tensor& tensor) {
  return tensor.defined() && tensor.has_storage() ? tensor.storage().unsafeGetStorageImpl() : nullptr;
}

}  // namespace

ParameterMap::ParameterMap(const NamedTensors& parameters) {
  for (const auto& [name, parameter] : parameters)
    if (const auto* storage = storage_of(parameter)) entries_[storage].push_back({name, parameter});
}

std::vector<const ParameterMap::Entry*> ParameterMap::overlapping(const at::Tensor& tensor) const {
  std::vector<const Entry*> found;
  const auto* storage = storage_of(tensor);
  const auto candidates = storage == nullptr ? entries_.end() : entries_.find(storage);
  if (candidates == entries_.end()) return found;
  const Extent wanted = extent_of(tensor);
  for (const Entry& entry : candidates->second) {
    const Extent extent = extent_of(entry.parameter);
    if (wanted.begin < extent.end && extent.begin < wanted.end) found.push_back(&entry);
  }
  return found;
}

const ParameterMap::Entry* ParameterMap::owner(const at::Tensor& tensor) const {
  const auto found = overlapping(tensor);
  if (found.size() != 1 || found[0]->parameter.scalar_type() != tensor.scalar_type()) return nullptr;
  const Extent extent = extent_of(found[0]->parameter), wanted = extent_of(tensor);
  return extent.begin <= wanted.begin && wanted.end <= extent.end ? found[0] : nullptr;
}

std::optional<RowSlice> row_slice(const at::Tensor& whole, const at::Tensor& view) {
  if (whole.dim() == 0 || view.dim() != whole.dim() || whole.numel() == 0 || view.numel() == 0) return std::nullopt;
  for (int64_t i = 1; i < whole.dim(); ++i)
    if (view.size(i) != whole.size(i) || (view.size(i) > 1 && view.stride(i) != whole.stride(i))) return std::nullopt;
  if (view.size(0) > 1 && view.stride(0) != whole.stride(0)) return std::nullopt;

  const int64_t offset = view.storage_offset() - whole.storage_offset();
  const int64_t stride = whole.size(0) > 1 ? whole.stride(0) : 1;
  const RowSlice slice{offset / stride, offset / stride + view.size(0)};
  if (offset < 0 || offset % stride != 0 || slice.end > whole.size(0)) return std::nullopt;
  return slice;
}

bool is_same_view(const at::Tensor& a, const at::Tensor& b) {
  return a.is_alias_of(b) && a.storage_offset() == b.storage_offset() && a.sizes() == b.sizes() &&
         a.strides() == b.strides();
}

}  // namespace amalgam
