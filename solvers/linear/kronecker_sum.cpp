#include "solvers/linear/kronecker_sum.h"

#include "solvers/linear/null_space.h"

namespace amalgam {

KroneckerSum::KroneckerSum(std::vector<KroneckerTerm> terms) : terms_(std::move(terms)) {
  TORCH_CHECK(!terms_.empty(), "KroneckerSum: no terms");
  const at::Tensor& input = terms_.front().input;
  const at::Tensor& output = terms_.front().output;
  TORCH_CHECK(input.dim() == 3 && output.dim() == 3, "KroneckerSum: factors are [L, n, n], here ", input.sizes(),
              " and ", output.sizes());
  sizes_ = {input.size(0), output.size(1), input.size(1)};
  for (const KroneckerTerm& term : terms_) {
    TORCH_CHECK(term.input.sizes() == at::IntArrayRef({sizes_[0], sizes_[2], sizes_[2]}), "KroneckerSum: A has sizes ",
                term.input.sizes());
    TORCH_CHECK(term.output.sizes() == at::IntArrayRef({sizes_[0], sizes_[1], sizes_[1]}), "KroneckerSum: B has sizes ",
                term.output.sizes());
    TORCH_CHECK(term.input.is_floating_point(), "KroneckerSum: factors are ", term.input.scalar_type());
    for (const at::Tensor& factor : {term.input, term.output})
      TORCH_CHECK(factor.scalar_type() == input.scalar_type() && factor.device() == input.device(),
                  "KroneckerSum: factors differ in dtype or device");
  }
}

void KroneckerSum::apply_impl(const at::Tensor& x, at::Tensor& out) const {
  if (!workspace_.defined()) workspace_ = at::empty_like(x, at::MemoryFormat::Contiguous);
  double keep = 0.0;  // the first term overwrites `out`
  for (const KroneckerTerm& term : terms_) {
    at::bmm_out(workspace_, term.output, x);                  // B X [L, out, in]
    out.baddbmm_(workspace_, term.input, keep, term.weight);  // + α B X A
    keep = 1.0;
  }
}

at::Tensor KroneckerSum::diagonal() const {
  at::Tensor sum = at::zeros(sizes_, options());
  for (const KroneckerTerm& term : terms_)
    sum.addcmul_(term.output.diagonal(0, -2, -1).unsqueeze(2), term.input.diagonal(0, -2, -1).unsqueeze(1),
                 term.weight);
  return sum;
}

at::Tensor KroneckerSum::null_part(const at::Tensor& x) const {
  check_operand(*this, x, "x");
  const TraceFactors mean = trace_factors(terms_);
  const at::Tensor right = null_space_projector(mean.input), left = null_space_projector(mean.output);
  at::Tensor part;
  if (right.defined()) part = x.bmm(right.to(x.dtype()));
  if (left.defined()) {
    const at::Tensor rest = part.defined() ? x - part : x;
    const at::Tensor lost = left.to(x.dtype()).bmm(rest);
    part = part.defined() ? part + lost : lost;
  }
  return part;
}

at::Tensor traces(const at::Tensor& matrices) { return matrices.diagonal(0, -2, -1).sum(-1, false, at::kDouble); }

TraceFactors trace_factors(const std::vector<KroneckerTerm>& terms) {
  TraceFactors sum;
  for (const KroneckerTerm& term : terms) {
    const at::Tensor input = term.input.to(at::kDouble), output = term.output.to(at::kDouble);
    const at::Tensor input_trace = traces(input), output_trace = traces(output);  // [L]
    const at::Tensor scale = input_trace * output_trace * term.weight;            // [L]
    const at::Tensor weighted_input = input * (output_trace * term.weight).view({-1, 1, 1});
    const at::Tensor weighted_output = output * (input_trace * term.weight).view({-1, 1, 1});
    if (!sum.scale.defined()) {
      sum = {weighted_input, weighted_output, scale};
    } else {
      sum.input += weighted_input;
      sum.output += weighted_output;
      sum.scale += scale;
    }
  }
  return sum;
}

}  // namespace amalgam
