#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/tensor_source.h"

namespace amalgam {

/// The matrices that are one in all of several models, as an embedding that is also the output of a language model is:
/// files have no word for it, they hold such a tensor under each of its names, or under one of them only.
///
/// A name stands for another one if every model that holds the first holds the second too, with the same dtype, shape
/// and bytes, and if all models hold the second. Vectors and what has no elements are left out: norms and biases are
/// equal by chance. Where tensors differ, their first difference ends the comparison, so that almost nothing is read.
/// @return name -> the name that it stands for, which stands for none itself: the first one in the order of names
std::map<std::string, std::string> tied_tensors(const std::vector<const TensorSource*>& models);

}  // namespace amalgam
