#pragma once

namespace amalgam {

/// In this scope models run as their code stands. Else TorchScript optimises them from their second pass on, so that
/// the bits of a result may depend on how many passes there were before.
class PlainExecution {
 public:
  PlainExecution();
  ~PlainExecution();
  PlainExecution(const PlainExecution&) = delete;
  PlainExecution& operator=(const PlainExecution&) = delete;

 private:
  bool profiling_;
};

/// In this scope TorchScript runs code call by call, without writing it out and optimising it before the first pass: of
/// a method that runs many models (models/forward_source.h) that takes longer than the passes.
class UnoptimisedExecution {
 public:
  UnoptimisedExecution();
  ~UnoptimisedExecution();
  UnoptimisedExecution(const UnoptimisedExecution&) = delete;
  UnoptimisedExecution& operator=(const UnoptimisedExecution&) = delete;

 private:
  bool optimising_;
};

}  // namespace amalgam
