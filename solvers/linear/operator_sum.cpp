#include "solvers/linear/operator_sum.h"

namespace amalgam {

OperatorSum::OperatorSum(std::vector<Part> parts) : parts_(std::move(parts)) {
  TORCH_CHECK(!parts_.empty(), "OperatorSum: no parts");
  for (const Part& part : parts_)
    TORCH_CHECK(part.op->sizes() == sizes() && part.op->options().dtype() == options().dtype() &&
                    part.op->options().device() == options().device(),
                "OperatorSum: the parts differ in sizes, dtype or device");
}

void OperatorSum::apply_impl(const at::Tensor& x, at::Tensor& out, const std::vector<int64_t>& items) const {
  parts_.front().op->apply(x, out, items);
  if (parts_.front().weight != 1.0) out.mul_(parts_.front().weight);
  for (size_t i = 1; i < parts_.size(); ++i) {
    if (!workspace_.defined()) workspace_ = at::zeros_like(x, at::MemoryFormat::Contiguous);
    parts_[i].op->apply(x, workspace_, items);
    out.add_(workspace_, parts_[i].weight);
  }
}

at::Tensor OperatorSum::diagonal() const {
  at::Tensor sum = at::zeros(sizes(), options());
  for (const Part& part : parts_) sum.add_(part.op->diagonal(), part.weight);
  return sum;
}

std::vector<KroneckerTerm> OperatorSum::kronecker_terms() const {
  std::vector<KroneckerTerm> terms;
  for (const Part& part : parts_) {
    const std::vector<KroneckerTerm> own = part.op->kronecker_terms();
    if (own.empty()) return {};
    for (KroneckerTerm term : own) {
      term.weight *= part.weight;
      terms.push_back(std::move(term));
    }
  }
  return terms;
}

at::Tensor OperatorSum::null_part(const at::Tensor& x) const {
  return parts_.size() == 1 ? parts_.front().op->null_part(x) : at::Tensor();
}

}  // namespace amalgam
