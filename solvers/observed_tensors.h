#pragma once

#include <functional>
#include <string>

#include "core/tensor_source.h"

namespace amalgam {

/// Tensors that say which of them is read, before it is.
class ObservedTensors final : public TensorSource {
 public:
  using Observe = std::function<void(const std::string& name)>;

  /// @param source  must outlive this
  ObservedTensors(const TensorSource& source, Observe observe) : source_(source), observe_(std::move(observe)) {}

  const std::map<std::string, TensorInfo>& infos() const override { return source_.infos(); }
  at::Tensor get(const std::string& name) const override {
    observe_(name);
    return source_.get(name);
  }
  void prefetch(const std::vector<std::string>& names) const override { source_.prefetch(names); }

 private:
  const TensorSource& source_;
  const Observe observe_;
};

}  // namespace amalgam
