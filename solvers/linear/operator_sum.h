#pragma once

#include <memory>

#include "solvers/linear/linear_operator.h"

namespace amalgam {

/// K = Σ w_i K_i of operators of any kinds: one expert has Kronecker factors, another only a diagonal. Of one part it
/// is that operator scaled.
class OperatorSum final : public LinearOperator {
 public:
  struct Part {
    double weight = 1.0;  ///< w
    std::unique_ptr<const LinearOperator> op;
  };

  /// @param parts  at least one, of the same sizes, dtype and device
  /// @throws c10::Error if they disagree
  explicit OperatorSum(std::vector<Part> parts);

  std::array<int64_t, 3> sizes() const override { return parts_.front().op->sizes(); }
  at::TensorOptions options() const override { return parts_.front().op->options(); }
  at::Tensor diagonal() const override;
  /// The parts' own; empty where one of them knows none.
  std::vector<KroneckerTerm> kronecker_terms() const override;
  /// That of the only part; of several it is not known.
  at::Tensor null_part(const at::Tensor& x) const override;

 protected:
  void apply_impl(const at::Tensor& x, at::Tensor& out, const std::vector<int64_t>& items) const override;

 private:
  std::vector<Part> parts_;
  mutable at::Tensor workspace_;  // [L, out, in], made on first use
};

}  // namespace amalgam
