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

}  // namespace amalgam
