#include "models/plain_execution.h"

#include <torch/csrc/jit/runtime/graph_executor.h>

namespace amalgam {

PlainExecution::PlainExecution() : profiling_(torch::jit::getProfilingMode().exchange(false)) {}

PlainExecution::~PlainExecution() { torch::jit::getProfilingMode() = profiling_; }

UnoptimisedExecution::UnoptimisedExecution() : optimising_(torch::jit::getGraphExecutorOptimize()) {
  torch::jit::setGraphExecutorOptimize(false);
}

UnoptimisedExecution::~UnoptimisedExecution() { torch::jit::setGraphExecutorOptimize(optimising_); }

}  // namespace amalgam
