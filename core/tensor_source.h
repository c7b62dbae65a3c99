#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace amalgam {

/// Tensors by name, in the order of their names, so that whatever is made from them is the same each time.
using NamedTensors = std::map<std::string, at::Tensor>;

/// What is known of a tensor before it is read.
struct TensorInfo {
  at::ScalarType dtype = at::kFloat;
  std::vector<int64_t> shape;

  bool operator==(const TensorInfo&) const = default;
};

/// "float32 [96, 96]": for messages.
std::string describe(const TensorInfo& info);

/// Named tensors that are read one at a time: a mapped file, or memory. Whoever merges sees nothing else of an expert.
class TensorSource {
 public:
  virtual ~TensorSource() = default;

  /// What there is, by name.
  virtual const std::map<std::string, TensorInfo>& infos() const = 0;

  /// The tensor, on the CPU, in the dtype it is stored in. It may be a view on a read-only mapping: do not write to it.
  /// @throws InputError if there is no such tensor
  virtual at::Tensor get(const std::string& name) const = 0;

  /// Says that these tensors will be asked for soon, so that whatever makes `get` slow can begin by itself. It changes
  /// no result, does not wait, and leaves out names that are not there. Nothing happens where there is nothing to gain.
  virtual void prefetch(const std::vector<std::string>& /*names*/) const {}

  bool contains(const std::string& name) const { return infos().contains(name); }
};

/// A TensorSource in memory.
class MemoryTensors final : public TensorSource {
 public:
  explicit MemoryTensors(NamedTensors tensors);

  const std::map<std::string, TensorInfo>& infos() const override { return infos_; }
  at::Tensor get(const std::string& name) const override;

 private:
  NamedTensors tensors_;
  std::map<std::string, TensorInfo> infos_;
};

}  // namespace amalgam
