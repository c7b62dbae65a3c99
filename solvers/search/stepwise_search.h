#pragma once

#include <functional>
#include <string>

#include "core/tensor_source.h"
#include "solvers/methods/method.h"

namespace amalgam {

/// A search in steps, which can be left after any of them and gone on with.
class StepwiseSearch {
 public:
  virtual ~StepwiseSearch() = default;

  virtual bool is_done() const = 0;
  virtual int64_t steps_done() const = 0;
  virtual int64_t most_steps() const = 0;
  /// One line about what the last step found; empty before the first.
  virtual std::string note() const = 0;
  /// @param checkpoint  called now and then. What it throws travels out, and leaves the state of the last whole step
  virtual void step(const Checkpoint& checkpoint) = 0;

  /// All that a search which goes on needs, on the CPU.
  virtual NamedTensors state() const = 0;
  /// Goes on from a state.
  /// @throws InputError if it is not of such a search; then this one is as it was
  virtual void resume(const NamedTensors& state) = 0;
};

/// One tensor of a kept state, as the search has it now: a copy on its device.
/// @param like  what the search has in its place
/// @throws InputError if there is none of this name, size and dtype
at::Tensor kept_tensor(const NamedTensors& state, const std::string& name, const at::Tensor& like);

/// Takes the steps that are left. The state is kept in a file of the work's folder, every few seconds (large ones less
/// often), when the program is asked to stop, and at the end: called again with the same identity, the search goes on
/// from there, to the same result.
/// @param identity  everything that the result depends on; only a state of the same is gone on with
/// @throws Interrupted from the work's progress
void run_search(StepwiseSearch& search, const SearchWork& work, const std::string& identity);

}  // namespace amalgam
