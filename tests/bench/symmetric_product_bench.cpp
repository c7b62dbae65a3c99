// A symmetric product into a float64 sum, beside the plain product of the same shape: <work>/<rows>/<columns>.
#include <benchmark/benchmark.h>

#include "core/symmetric_product.h"

namespace amalgam {
namespace {

void plain(benchmark::State& state) {
  const at::Tensor x = at::randn({state.range(0), state.range(1)});
  at::Tensor product = at::empty({x.size(1), x.size(1)});
  for (auto _ : state) at::mm_out(product, x.t(), x);
}

void symmetric(benchmark::State& state) {
  const at::Tensor x = at::randn({state.range(0), state.range(1)});
  at::Tensor sum = at::zeros({x.size(1), x.size(1)}, at::kDouble);
  for (auto _ : state) add_lower_product(x, sum);
}

void sizes(benchmark::internal::Benchmark* of) {
  of->ArgsProduct({{64, 512, 2048}, {384, 768, 1536}})->Unit(benchmark::kMicrosecond)->UseRealTime();
}

BENCHMARK(plain)->Apply(sizes);
BENCHMARK(symmetric)->Apply(sizes);

}  // namespace
}  // namespace amalgam

BENCHMARK_MAIN();
