#pragma once

#include <ATen/ATen.h>

#include <filesystem>

#include "core/tensor_source.h"

namespace amalgam {

/// A tensor of zeros on the CPU whose memory is a file in `folder`: for sums that are larger than the machine's memory,
/// since the kernel may write its pages to the disk and drop them.
///
/// The file loses its name at once, so nothing is left behind however the program ends. Its space is reserved here, so
/// that a disk that fills up later cannot stop the program in the middle of a sum; it is given back with the tensor's
/// storage. The tensor can be written to, shared and viewed as any other. One without elements takes no file.
///
/// @param folder  is there, and on a disk: a folder in memory (tmpfs) saves none
/// @throws InputError if no file can be made in `folder`, or if the disk has no space for it
at::Tensor mapped_zeros(const std::filesystem::path& folder, const TensorInfo& info);

}  // namespace amalgam
