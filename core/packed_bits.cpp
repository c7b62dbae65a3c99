#include "core/packed_bits.h"

#include <c10/util/accumulate.h>

#include "core/error.h"

namespace amalgam {
namespace {

/// 1, 2, 4 … 128: uint8 [8].
at::Tensor bit_values(at::Device device) {
  return at::bitwise_left_shift(at::ones({8}, at::TensorOptions(device).dtype(at::kByte)),
                                at::arange(8, at::TensorOptions(device).dtype(at::kByte)));
}

}  // namespace

at::Tensor pack_bits(const at::Tensor& mask) {
  TORCH_CHECK(mask.scalar_type() == at::kBool, "a mask of ", mask.scalar_type(), " where bool was expected");
  const int64_t n = mask.numel(), bytes = (n + 7) / 8;
  at::Tensor bits = at::zeros({bytes * 8}, mask.options().dtype(at::kByte));
  bits.slice(0, 0, n).copy_(mask.reshape({-1}));
  return bits.view({bytes, 8}).mul_(bit_values(mask.device())).sum(1, /*keepdim=*/false, at::kByte);
}

at::Tensor unpack_bits(const at::Tensor& packed, at::IntArrayRef sizes) {
  TORCH_CHECK(packed.scalar_type() == at::kByte, "packed bits of ", packed.scalar_type(), " where uint8 was expected");
  const int64_t n = c10::multiply_integers(sizes);
  require_input(
      packed.dim() == 1 && packed.numel() == (n + 7) / 8,
      "a packed mask of {} elements takes {} bytes, found {}: it belongs to another parameter, or was cut off", n,
      (n + 7) / 8, packed.numel());
  const at::Tensor bits =
      packed.unsqueeze(1).bitwise_and(bit_values(packed.device())).ne(0).reshape({-1});  // [8 ⌈n/8⌉]
  require_input(!bits.slice(0, n).any().item<bool>(),
                "a packed mask of {} elements has a bit set after the last: it belongs to another parameter", n);
  return bits.slice(0, 0, n).view(sizes);
}

}  // namespace amalgam
