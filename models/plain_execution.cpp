#include "models/plain_execution.h"

#include <torch/csrc/jit/runtime/graph_executor.h>

namespace amalgam {

PlainExecution::PlainExecution() : profiling_(torch::jit::getProfilingMode().exchange(false)) {}

PlainExecution::~PlainExecution() { torch::jit::getProfilingMode() = profiling_; }

}  // namespace amalgam
