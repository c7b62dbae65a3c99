#include "solvers/methods/element_draws.h"

#include <ATen/Parallel.h>

#include "core/random.h"

namespace amalgam {

at::Tensor element_draws(uint64_t seed, const std::string& use, const std::string& task, const std::string& parameter,
                         at::IntArrayRef sizes, int64_t first) {
  const RandomStream stream(seed, use + '\n' + task + '\n' + parameter);
  at::Tensor draws = at::empty(sizes, at::kDouble);
  double* values = draws.mutable_data_ptr<double>();
  at::parallel_for(0, draws.numel(), 1 << 14, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) values[i] = stream.uniform(static_cast<uint64_t>(first + i));
  });
  return draws;
}

}  // namespace amalgam
