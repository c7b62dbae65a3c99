#include "solvers/linear/operator_sum.h"

#include <gtest/gtest.h>

#include "solvers/linear/conjugate_gradient.h"
#include "solvers/linear/diagonal_operator.h"
#include "solvers/linear/kronecker_sum.h"
#include "solvers/random_matrices.h"

namespace amalgam {
namespace {

using test::difference;
using test::RandomMatrices;

/// A matrix on X flattened by rows, one an item: an operator of which no Kronecker products are known.
class OfMatrices final : public LinearOperator {
 public:
  OfMatrices(at::Tensor matrices, int64_t out, int64_t in) : matrices_(std::move(matrices)), out_(out), in_(in) {}

  std::array<int64_t, 3> sizes() const override { return {matrices_.size(0), out_, in_}; }
  at::TensorOptions options() const override { return matrices_.options(); }
  at::Tensor diagonal() const override { return matrices_.diagonal(0, 1, 2).reshape(sizes()); }

 private:
  void apply_impl(const at::Tensor& x, at::Tensor& out, const std::vector<int64_t>&) const override {
    out.copy_(matrices_.bmm(x.flatten(1).unsqueeze(2)).view_as(x));
  }

  at::Tensor matrices_;  // [L, out*in, out*in]
  int64_t out_, in_;
};

/// One expert with Kronecker factors, one with a diagonal, one with a dense matrix, and a scaled identity.
struct OfAllKinds : testing::Test {
  RandomMatrices random{1};
  const int64_t items = 2, out = 3, in = 5;
  const std::vector<KroneckerTerm> terms = random.terms(2, items, out, in);
  const at::Tensor diagonal = random.normal({items, out, in}).square();
  const at::Tensor matrices = random.gram(items, out* in, 4);

  OperatorSum sum(bool with_dense = true) const {
    std::vector<OperatorSum::Part> parts;
    parts.push_back({2.0, std::make_unique<KroneckerSum>(terms)});
    parts.push_back({0.5, std::make_unique<DiagonalOperator>(diagonal)});
    parts.push_back({0.1, std::make_unique<KroneckerSum>(std::array<int64_t, 3>{items, out, in},
                                                         std::vector<KroneckerTerm>{{1.0, {}, {}}}, at::kDouble)});
    if (with_dense) parts.push_back({3.0, std::make_unique<OfMatrices>(matrices, out, in)});
    return OperatorSum(std::move(parts));
  }
  at::Tensor dense(int64_t item, bool with_dense = true) const {
    at::Tensor matrix = 2.0 * test::dense(terms, item) + 0.5 * at::diag(diagonal[item].flatten()) +
                        0.1 * at::eye(out * in, at::kDouble);
    return with_dense ? matrix + 3.0 * matrices[item] : matrix;
  }
};

TEST_F(OfAllKinds, IsTheSumOfTheDenseMatrices) {
  const at::Tensor x = random.normal({items, out, in});
  const OperatorSum op = sum();
  at::Tensor image = at::full_like(x, NAN);
  op.apply(x, image);
  for (int64_t item = 0; item < items; ++item) {
    EXPECT_LE(difference(image[item].flatten(), dense(item).mv(x[item].flatten())), 1e-12);
    EXPECT_LE(difference(op.diagonal()[item].flatten(), dense(item).diagonal()), 1e-12);
  }
}

TEST_F(OfAllKinds, IsSolvedAsTheDenseSystemIs) {
  const at::Tensor rhs = random.normal({items, out, in});
  for (const bool with_dense : {true, false}) {
    const OperatorSum op = sum(with_dense);
    for (const std::string& name : preconditioner_names()) {
      if (with_dense && name != "none" && name != "jacobi") {
        EXPECT_THROW(make_preconditioner(name, op), c10::Error) << name;  // a dense part is no Kronecker product
        continue;
      }
      CgOptions options;
      options.iterations = 500;
      options.tolerance = 1e-12;
      const Solution solution = solve(op, rhs, at::zeros_like(rhs), make_preconditioner(name, op).get(), options);
      for (int64_t item = 0; item < items; ++item) {
        EXPECT_TRUE(solution.items[static_cast<size_t>(item)].converged) << name;
        EXPECT_LE(
            difference(solution.x[item].flatten(), at::linalg_solve(dense(item, with_dense), rhs[item].flatten())),
            1e-9)
            << name;
      }
    }
  }
}

TEST_F(OfAllKinds, RefusesPartsOfOtherSizes) {
  std::vector<OperatorSum::Part> parts;
  parts.push_back({1.0, std::make_unique<DiagonalOperator>(diagonal)});
  parts.push_back({1.0, std::make_unique<DiagonalOperator>(diagonal.transpose(1, 2).contiguous())});
  EXPECT_THROW(OperatorSum(std::move(parts)), c10::Error);
  EXPECT_THROW(OperatorSum(std::vector<OperatorSum::Part>{}), c10::Error);
}

}  // namespace
}  // namespace amalgam
