#include "core/symmetric_product_cuda.h"

#include "core/version.h"

#if AMALGAM_HAS_CUDA
#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/Exceptions.h>
#include <c10/cuda/CUDAGuard.h>
#include <cublas_v2.h>

namespace amalgam::detail {

void add_lower_product_cuda(const at::Tensor& x, at::Tensor& sum) {
  const c10::cuda::CUDAGuard device(x.device());
  const auto handle = at::cuda::getCurrentCUDABlasHandle();
  const int64_t rows = x.size(0), n = x.size(1);
  // cuBLAS counts by columns: it sees xᵀ [n, rows], and our lower triangle is its upper one.
  const auto triangle = CUBLAS_FILL_MODE_UPPER;
  if (x.scalar_type() == at::kFloat) {
    const float one = 1;
    TORCH_CUDABLAS_CHECK(cublasSsyrk_64(handle, triangle, CUBLAS_OP_N, n, rows, &one, x.const_data_ptr<float>(), n,
                                        &one, sum.mutable_data_ptr<float>(), n));
  } else {
    const double one = 1;
    TORCH_CUDABLAS_CHECK(cublasDsyrk_64(handle, triangle, CUBLAS_OP_N, n, rows, &one, x.const_data_ptr<double>(), n,
                                        &one, sum.mutable_data_ptr<double>(), n));
  }
}

}  // namespace amalgam::detail
#endif
