#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <vector>

namespace amalgam {

/// Reads an IDX file of unsigned bytes, plain or gzip: two zero bytes, the type 0x08, the number of axes, a big-endian
/// 32-bit length for each axis, then exactly so many bytes.
///
/// Nothing is allocated by the header before it is known that the file can hold as much.
/// @param axes  how many the file must have: 1 for labels, 3 for images
/// @return uint8, shaped as the header says; no axis is empty
/// @throws InputError naming the file, what its header promises and what it holds
/// @source http://yann.lecun.com/exdb/mnist, "The IDX file format"
at::Tensor read_idx(const std::filesystem::path& path, size_t axes);

/// The shape that `read_idx` would give, after a check that reads only the ends of a sound file (a plain file's size,
/// the length in a gzip file's trailer); a file that looks wrong there is read through to be sure.
/// @throws InputError as `read_idx`, but for damage in the middle of gzip data
std::vector<int64_t> check_idx(const std::filesystem::path& path, size_t axes);

}  // namespace amalgam
