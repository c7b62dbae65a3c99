#pragma once

#include "solvers/merge.h"

namespace amalgam {

/// Puts the outcome of one merge together, from averages and from what the method made of each group.
class OutcomeBuilder {
 public:
  /// Both must outlive this.
  OutcomeBuilder(const MergeMethod& method, const MergeInput& input);

  /// A parameter or buffer as a whole; a copy is kept, never a view.
  /// @throws c10::Error if it has other sizes than the experts'
  void store(const std::string& name, const at::Tensor& value);
  /// What the method made of a group. Averages of parameters of which layers merge some rows must be there already.
  /// @return how many parameters were not there before
  int64_t add(const MergeGroup& group, const GroupResult& result);
  /// What is there so far.
  const NamedTensors& merged() const { return outcome_.merged; }
  /// @throws InputError if a value is not finite in the dtype it is stored in
  MergeOutcome finish(std::vector<Fallback> fallbacks, double seconds);

 private:
  bool make_room(const std::string& name);
  void sort_reports();

  const MergeMethod& method_;
  const MergeInput& input_;
  MergeOutcome outcome_;
};

/// What becomes of a parameter or buffer that no method merges: the experts' weighted average where it is floating,
/// else the first expert's.
at::Tensor value_without_method(const MergeInput& input, const std::string& name);

/// What becomes of a buffer: the experts' average by the method's `buffer_weights` where it is floating, else that of
/// the first expert that counts. One that `apply_to` or `except` leave out, or in which no expert counts, is as without
/// a method.
at::Tensor merged_buffer(const MergeMethod& method, const MergeInput& input, const std::string& name);

/// A merged value as it is stored: on the CPU, contiguous, in the experts' dtype, a copy of its own and never a view.
/// @throws c10::Error if it has other sizes than the experts'
at::Tensor stored_value(const MergeMethod& method, const MergeInput& input, const std::string& name,
                        const at::Tensor& value);

/// @param stored  as `stored_value` gives it
/// @throws InputError if a value is not finite, naming the expert where one holds such a value already
void check_finite(const MergeMethod& method, const MergeInput& input, const std::string& name,
                  const at::Tensor& stored);

/// @throws c10::Error if a method's result is not of the whole group
void check_result(const MergeMethod& method, const MergeGroup& group, const GroupResult& result);

}  // namespace amalgam
