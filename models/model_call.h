#pragma once

#include <ATen/ATen.h>
#include <ATen/core/function_schema.h>
#include <ATen/core/ivalue.h>

#include <string>

#include "core/batch.h"

namespace amalgam {

/// Checks that a batch's inputs, by position and by name, are what `forward` takes.
/// @param schema  of forward, its first argument being self
/// @param origin  of the model, for messages
/// @throws InputError for an input too many, an unknown name (naming the nearest), an argument that is given twice, or
/// one without a default that is not given
void require_arguments(const c10::FunctionSchema& schema, const Batch& batch, const std::string& origin);

/// Which tensor of what a model returns is its output: the tensor itself; the one that `choice` names in a tuple or
/// list (its position, or a named tuple's field), a dict (its key) or an object (its attribute); without a choice the
/// only one there is.
/// @param choice  "logits", "0"; empty: none was made
/// @throws InputError, listing what there is, if that is no tensor
at::Tensor chosen_output(const c10::IValue& returned, const std::string& choice, const std::string& origin);

}  // namespace amalgam
