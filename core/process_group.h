#pragma once

#include <ATen/ATen.h>

#include <string>
#include <vector>

namespace amalgam {

/// The processes that a launcher (`mpirun`, `srun --mpi=pmix`) started together, numbered 0 … size - 1; 0 is the root.
///
/// Made once, at the start of the program, before threads that would call it. MPI is touched only where a launcher's
/// environment announces more than one process; else the group has one member, and every call below returns at once.
///
/// All calls but `abort` and `to_root` are collective: every member makes the same calls in the same order, from the
/// thread that made the group, and waits for the others. An error of MPI itself ends all processes, as MPI's default
/// is.
class ProcessGroup {
 public:
  /// @throws InputError if a launcher announces several processes but MPI sees one, so that each would take itself for
  ///         the root: the launcher belongs to another MPI than the library
  ProcessGroup();
  /// Leaves MPI, which waits until all members do. Where an exception is under way the others may be waiting in a
  /// collective call for ever, so MPI is not left: the launcher notices a process that ends in this way and ends the
  /// others. A program that catches the exception while the group lives calls `abort`.
  ~ProcessGroup();
  ProcessGroup(const ProcessGroup&) = delete;
  ProcessGroup& operator=(const ProcessGroup&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  /// The number among the members on this machine, from 0: which GPU to take.
  int local_rank() const { return local_rank_; }
  /// How many members are on this machine, this one among them.
  int local_size() const { return local_size_; }
  bool is_root() const { return rank_ == 0; }

  /// Whether any member said so; the same answer everywhere.
  bool any(bool here) const;

  /// Adds the members' tensors into the root's, in place; the others' are unchanged. The order in which members are
  /// added is MPI's: floating sums of several processes equal those of one to rounding only.
  /// @param sum  float64, float32 or int64, contiguous, on the CPU; of one dtype and as many elements everywhere
  /// @throws c10::Error on all members alike if that does not hold on one
  void sum_to_root(at::Tensor& sum) const;

  /// The root's text, on every member; what the others give is not read.
  std::string broadcast(std::string text) const;

  /// On the root the texts of all members, by rank; elsewhere nothing.
  std::vector<std::string> gather(const std::string& text) const;

  /// Hands the tensor of member `from` to the root. These two make the call, each at its own place among their calls of
  /// it; for others, and where `from` is the root, nothing happens.
  /// @param tensor  on `from`: contiguous, on the CPU, of any dtype and shape; elsewhere not read
  /// @return on the root, from another: that tensor, bit by bit; else `tensor`
  at::Tensor to_root(const at::Tensor& tensor, int from) const;

  /// Returns when all members have come here.
  void barrier() const;

  /// Ends all members at once, with `code` as this one's exit code and the launcher's. No destructor runs; what was
  /// written to the standard streams is flushed.
  [[noreturn]] void abort(int code) const;

 private:
  void join(int announced);

  int rank_ = 0, size_ = 1, local_rank_ = 0, local_size_ = 1;
  int exceptions_ = 0;  // under way when the group was made
};

}  // namespace amalgam
