#include "solvers/linear/preconditioner.h"

#include <gtest/gtest.h>

#include "solvers/linear/kronecker_sum.h"
#include "solvers/random_matrices.h"

namespace amalgam {
namespace {

using test::RandomMatrices;

/// P of the header's formula, as a dense matrix: (Ā + π √γ I) and (B̄ + √γ/π I), over c.
at::Tensor dense_preconditioner(const std::vector<KroneckerTerm>& terms, int64_t item, double rho) {
  at::Tensor a, b;
  double c = 0.0;
  for (const KroneckerTerm& term : terms) {
    const at::Tensor input = term.input[item], output = term.output[item];
    const double input_trace = input.trace().item<double>(), output_trace = output.trace().item<double>();
    a = a.defined() ? a + input * (term.weight * output_trace) : input * (term.weight * output_trace);
    b = b.defined() ? b + output * (term.weight * input_trace) : output * (term.weight * input_trace);
    c += term.weight * input_trace * output_trace;
  }
  const double a_mean = a.trace().item<double>() / static_cast<double>(a.size(0));
  const double b_mean = b.trace().item<double>() / static_cast<double>(b.size(0));
  const double pi = std::sqrt(a_mean / b_mean), gamma = rho * rho * a_mean * b_mean;
  const at::Tensor damped_a = a + pi * std::sqrt(gamma) * at::eye(a.size(0), at::kDouble);
  const at::Tensor damped_b = b + std::sqrt(gamma) / pi * at::eye(b.size(0), at::kDouble);
  return at::kron(damped_b.contiguous(), damped_a.contiguous()) / c;
}

TEST(KroneckerPreconditioner, InvertsTheDampedProductOfWeightedSums) {
  RandomMatrices random(1);
  const auto terms = random.terms(3, 2, 4, 5);
  const KroneckerPreconditioner preconditioner(trace_fit(terms, {2, 4, 5}), {}, at::kDouble, 0.01);
  const at::Tensor r = random.normal({2, 4, 5});
  at::Tensor z = at::empty_like(r);
  preconditioner.apply(r, z, {0, 1});
  for (int64_t item = 0; item < 2; ++item) {
    const at::Tensor back = dense_preconditioner(terms, item, 0.01).mv(z[item].flatten()).view({4, 5});
    EXPECT_LE(test::difference(back, r[item]), 1e4 * test::kEps64);
  }
}

TEST(KroneckerPreconditioner, IsTheInverseOfASingleTerm) {
  RandomMatrices random(2);
  const KroneckerSum op(random.terms(1, 1, 3, 4));
  const at::Tensor x = random.normal({1, 3, 4});
  at::Tensor image = at::empty_like(x), back = at::empty_like(x);
  op.apply(x, image);
  KroneckerPreconditioner(trace_fit(op.kronecker_terms(), op.sizes()), {}, at::kDouble, 0.0).apply(image, back, {0});
  EXPECT_LE(test::difference(back, x), 1e5 * test::kEps64);
}

TEST(KroneckerPreconditioner, IsTheIdentityWhereTheOperatorIsZero) {
  const at::Tensor zero = at::zeros({1, 3, 3}, at::kDouble);
  const KroneckerSum op({{1.0, zero, zero}});
  const at::Tensor r = RandomMatrices(3).normal({1, 3, 3});
  at::Tensor z = at::empty_like(r);
  make_preconditioner("kronecker_trace", op)->apply(r, z, {0});
  EXPECT_TRUE(at::equal(z, r));
}

TEST(KroneckerPreconditioner, StaysPositiveInFloat32OnIllConditionedFactors) {
  RandomMatrices random(4);
  const auto factor = [&](int64_t n) {  // eigenvalues from 1 down to 1e-12
    const at::Tensor basis = std::get<0>(at::linalg_qr(random.normal({1, n, n})));
    return (basis * at::logspace(0, -12, n, 10.0, at::kDouble)).bmm(basis.transpose(1, 2)).to(at::kFloat);
  };
  const KroneckerSum op({{1.0, factor(40), factor(60)}});
  const KroneckerPreconditioner preconditioner(trace_fit(op.kronecker_terms(), op.sizes()), {}, at::kFloat);
  const at::Tensor r = random.normal({1, 40, 60}).to(at::kFloat);
  at::Tensor z = at::empty_like(r), image = at::empty_like(r);
  preconditioner.apply(r, z, {0});
  EXPECT_GT((z * r).sum().item<double>(), 0.0);
  op.apply(r, image);  // a residual in the range: small along small eigenvalues
  preconditioner.apply(image, z, {0});
  EXPECT_GT((z * image).sum().item<double>(), 0.0);
}

TEST(KroneckerPreconditioner, LeavesOutWhatTheOperatorDoesNotSee) {
  RandomMatrices random(12);
  const KroneckerSum op(
      {{1.0, random.gram(1, 4, 3), random.gram(1, 6, 2)}, {1.0, random.gram(1, 4, 4), random.gram(1, 6, 2)}});
  const at::Tensor r = random.normal({1, 4, 6});
  at::Tensor z = at::empty_like(r);
  make_preconditioner("kronecker_trace", op)->apply(r, z, {0});
  EXPECT_LE(op.null_part(z).abs().max().item<double>(), 1e-10 * z.abs().max().item<double>());
}

TEST(JacobiPreconditioner, DividesByTheDiagonal) {
  RandomMatrices random(6);
  const auto terms = random.terms(3, 2, 3, 5);
  const KroneckerSum op(terms);
  const at::Tensor r = random.normal({2, 3, 5});
  at::Tensor z = at::empty_like(r);
  JacobiPreconditioner(op).apply(r, z, {0, 1});
  for (int64_t item = 0; item < 2; ++item)
    EXPECT_LE(test::difference(z[item].flatten(), r[item].flatten() / test::dense(terms, item).diagonal()),
              20 * test::kEps64 * z.abs().max().item<double>());
}

TEST(TwoTermPreconditioner, IsTheInverseOfTwoTerms) {
  RandomMatrices random(7);
  for (const auto& [out, in] : {std::pair<int64_t, int64_t>{1, 1}, {4, 7}, {9, 2}, {130, 129}}) {
    const KroneckerSum op(random.terms(2, 2, out, in));
    const at::Tensor x = random.normal({2, out, in});
    at::Tensor image = at::empty_like(x), back = at::empty_like(x);
    op.apply(x, image);
    make_preconditioner("two_term", op)->apply(image, back, {0, 1});
    EXPECT_LE((back - x).norm().item<double>(), 1e-8 * x.norm().item<double>()) << out << "x" << in;
  }
}

TEST(TwoTermPreconditioner, LeavesOutWhatNoTermSees) {
  RandomMatrices random(8);
  const KroneckerSum op(
      {{1.0, random.gram(1, 4, 4, 0.1), random.gram(1, 6, 2)}, {1.0, random.gram(1, 4, 4, 0.1), random.gram(1, 6, 2)}});
  const at::Tensor r = random.normal({1, 4, 6});
  at::Tensor z = at::empty_like(r);
  make_preconditioner("two_term", op)->apply(r, z, {0});
  EXPECT_TRUE(z.isfinite().all().item<bool>());
  EXPECT_LE(op.null_part(z).abs().max().item<double>(), 1e-9 * z.abs().max().item<double>());
}

TEST(Preconditioner, IsSymmetricAndPositive) {
  RandomMatrices random(9);
  const KroneckerSum op(random.terms(4, 2, 5, 6));
  const at::Tensor r = random.normal({2, 5, 6}), s = random.normal({2, 5, 6});
  for (const std::string& name : preconditioner_names()) {
    const auto preconditioner = make_preconditioner(name, op);
    if (!preconditioner) continue;
    at::Tensor of_r = at::empty_like(r), of_s = at::empty_like(s);
    preconditioner->apply(r, of_r, {0, 1});
    preconditioner->apply(s, of_s, {0, 1});
    EXPECT_NEAR((of_r * s).sum().item<double>(), (of_s * r).sum().item<double>(),
                1e-10 * of_r.norm().item<double>() * s.norm().item<double>())
        << name;
    EXPECT_GT((of_r * r).sum().item<double>(), 0) << name;
  }
}

TEST(Preconditioner, IsMadeByName) {
  const KroneckerSum op(RandomMatrices(5).terms(1, 1, 2, 2));
  EXPECT_EQ(make_preconditioner("none", op), nullptr);
  for (const std::string& name : preconditioner_names())
    if (name != "none") {
      EXPECT_NE(make_preconditioner(name, op), nullptr) << name;
    }
  EXPECT_THROW(make_preconditioner("other", op), c10::Error);
}

}  // namespace
}  // namespace amalgam
