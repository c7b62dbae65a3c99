#pragma once

#include <ATen/ATen.h>
#include <ATen/core/ivalue.h>

#include <optional>

namespace amalgam {

/// Calls `visit` with each tensor that an operator's argument or result holds.
template <class Visit>
void for_each_tensor(const c10::IValue& value, const Visit& visit) {
  if (value.isTensor()) {
    if (value.toTensor().defined()) visit(value.toTensor());
  } else if (value.isTensorList()) {
    for (const at::Tensor& tensor : value.toTensorVector()) visit(tensor);
  } else if (value.isOptionalTensorList()) {
    for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorVector())
      if (tensor && tensor->defined()) visit(*tensor);
  }
}

}  // namespace amalgam
