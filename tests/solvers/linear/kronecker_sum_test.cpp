#include "solvers/linear/kronecker_sum.h"

#include <gtest/gtest.h>

#include "solvers/random_matrices.h"

namespace amalgam {
namespace {

using test::difference;
using test::RandomMatrices;

TEST(KroneckerSum, IsTheDenseSumOfKroneckerProducts) {
  RandomMatrices random(1);
  for (const auto& [out, in] : {std::pair<int64_t, int64_t>{1, 1}, {1, 7}, {5, 1}, {4, 3}, {8, 17}}) {
    const auto terms = random.terms(3, 2, out, in);
    const at::Tensor x = random.normal({2, out, in});
    at::Tensor result = at::full_like(x, NAN);  // must be overwritten, not added to
    KroneckerSum(terms).apply(x, result);
    for (int64_t item = 0; item < 2; ++item) {
      const at::Tensor matrix = test::dense(terms, item);
      const at::Tensor expected = matrix.mv(x[item].flatten()).view({out, in});
      EXPECT_LE(difference(result[item], expected), 20 * test::kEps64 * matrix.abs().sum(1).max().item<double>() * 4);
      EXPECT_LE(difference(KroneckerSum(terms).diagonal()[item].flatten(), matrix.diagonal()),
                1e-14 * matrix.max().item<double>());
    }
  }
}

TEST(KroneckerSum, RefusesFactorsAndOperandsThatDoNotFit) {
  RandomMatrices random(2);
  auto terms = random.terms(2, 2, 3, 4);
  const KroneckerSum op(terms);
  at::Tensor out = at::empty({2, 3, 4}, at::kDouble);
  EXPECT_THROW(op.apply(at::zeros({2, 4, 3}, at::kDouble), out), c10::Error);
  EXPECT_THROW(op.apply(at::zeros({2, 3, 4}, at::kFloat), out), c10::Error);
  EXPECT_THROW(op.apply(out, out), c10::Error);
  terms[1].input = random.gram(2, 5, 5);
  EXPECT_THROW(KroneckerSum{terms}, c10::Error);
  EXPECT_THROW(KroneckerSum{std::vector<KroneckerTerm>{}}, c10::Error);
}

TEST(KroneckerSum, FindsTheCommonNullSpaceOfTheInputFactors) {
  RandomMatrices random(3);
  const int64_t out = 3, in = 6;
  // Two factors of rank 2 in six dimensions: 6 - 4 common null directions.
  const std::vector<KroneckerTerm> terms{{1.0, random.gram(1, out, out, 0.1), random.gram(1, in, 2)},
                                         {2.0, random.gram(1, out, out, 0.1), random.gram(1, in, 2)}};
  const KroneckerSum op(terms);
  const at::Tensor x = random.normal({1, out, in});
  const at::Tensor part = op.null_part(x);
  at::Tensor image = at::empty_like(x);
  op.apply(part.contiguous(), image);
  EXPECT_LE(image.abs().max().item<double>(), 1e-12);
  // What is left is orthogonal to it, and of rank 4.
  EXPECT_NEAR((part * (x - part)).sum().item<double>(), 0.0, 1e-12);
  EXPECT_EQ(
      at::linalg_matrix_rank(op.null_part(at::eye(in, at::kDouble).slice(0, 0, out).unsqueeze(0))[0]).item<int64_t>(),
      2);
}

TEST(KroneckerSum, LeavesOutOfTheNullSpaceWhoHasNoSay) {
  RandomMatrices random(4);
  // The second expert's B is zero, so that its regular A does not count.
  const at::Tensor zero = at::zeros({1, 3, 3}, at::kDouble);
  const KroneckerSum op({{1.0, random.gram(1, 3, 3, 0.1), random.gram(1, 5, 2)}, {1.0, zero, random.gram(1, 5, 9)}});
  const at::Tensor part = op.null_part(random.normal({1, 3, 5}));
  ASSERT_TRUE(part.defined());
  EXPECT_GT(part.norm().item<double>(), 0.1);
}

TEST(KroneckerSum, KnowsThatARegularOperatorHasNoNullSpace) {
  RandomMatrices random(5);
  EXPECT_FALSE(KroneckerSum(random.terms(2, 3, 4, 5)).null_part(random.normal({3, 4, 5})).defined());
}

TEST(KroneckerSum, TakesAMissingFactorForTheIdentity) {
  RandomMatrices random(6);
  const int64_t items = 2, out = 5, in = 3;
  const at::Tensor a = random.gram(items, in, 4), b = random.gram(items, out, 6), x = random.normal({items, out, in});
  const at::Tensor out_identity = at::eye(out, at::kDouble).expand({items, out, out}),
                   in_identity = at::eye(in, at::kDouble).expand({items, in, in});
  const KroneckerSum with_gaps({items, out, in}, {{2.0, {}, a}, {3.0, b, {}}, {0.5, {}, {}}}, at::kDouble);
  const KroneckerSum written_out({{2.0, out_identity, a}, {3.0, b, in_identity}, {0.5, out_identity, in_identity}});
  at::Tensor image = at::full_like(x, NAN), expected = at::empty_like(x);
  with_gaps.apply(x, image);
  written_out.apply(x, expected);
  EXPECT_LE(difference(image, expected), 50 * test::kEps64 * expected.abs().max().item<double>());
  EXPECT_LE(difference(with_gaps.diagonal(), written_out.diagonal()), 50 * test::kEps64);
  // A sum that begins with the identity overwrites what was there, too.
  at::Tensor plain = at::full_like(x, NAN);
  KroneckerSum({items, out, in}, {{0.5, {}, {}}, {1.0, {}, a}}, at::kDouble).apply(x, plain);
  EXPECT_LE(difference(plain, 0.5 * x + x.bmm(a)), 50 * test::kEps64 * plain.abs().max().item<double>());
}

TEST(KroneckerSum, MayStoreTheInputFactorThatItemsShareOnce) {
  RandomMatrices random(7);
  for (const int64_t out : {3, 130}) {  // products in one batch, and item by item
    const int64_t in = out + 1;
    const std::vector<int64_t> owner{0, 0, 0, 1, 2, 2};
    const at::Tensor stored = random.gram(3, in, in), b = random.gram(6, out, out), x = random.normal({6, out, in});
    const KroneckerSum shared({6, out, in}, {{2.0, b, stored}, {1.0, {}, stored}}, at::kDouble, owner);
    const at::Tensor each = stored.index_select(0, at::tensor(owner));
    const KroneckerSum own({6, out, in}, {{2.0, b, each}, {1.0, {}, each}}, at::kDouble);
    at::Tensor image = at::full_like(x, NAN), expected = at::empty_like(x);
    shared.apply(x, image);
    own.apply(x, expected);
    EXPECT_LE(difference(image, expected),
              4.0 * static_cast<double>(out) * test::kEps64 * expected.abs().max().item<double>());
    EXPECT_LE(difference(shared.diagonal(), own.diagonal()), 1e-12);
    EXPECT_TRUE(at::equal(shared.kronecker_terms()[0].input, each));
  }
  EXPECT_THROW(KroneckerSum({2, 3, 4}, {{1.0, {}, random.gram(1, 4, 4)}}, at::kDouble, {0, 1}), c10::Error);
}

TEST(KroneckerSum, GivesTheSameInPiecesOfASmallWorkspace) {
  RandomMatrices random(8);
  for (const bool share : {false, true}) {
    const int64_t items = 3, out = 7, in = 5;
    const std::vector<int64_t> owner = share ? std::vector<int64_t>{0, 0, 1} : std::vector<int64_t>{};
    const std::vector<KroneckerTerm> terms{{1.0, random.gram(items, out, 9), random.gram(share ? 2 : 3, in, 6)},
                                           {2.0, {}, random.gram(share ? 2 : 3, in, 6)}};
    const at::Tensor x = random.normal({items, out, in});
    at::Tensor expected = at::empty_like(x);
    KroneckerSum({items, out, in}, terms, at::kDouble, owner).apply(x, expected);
    for (const int64_t rows : {1, 2, 6, 7, 8, 14, 15, 21}) {
      KroneckerSum op({items, out, in}, terms, at::kDouble, owner);
      op.set_workspace_bytes(rows * in * 8);
      at::Tensor image = at::full_like(x, NAN);
      op.apply(x, image);
      EXPECT_LE(difference(image, expected), 40 * test::kEps64 * expected.abs().max().item<double>()) << rows;
    }
  }
}

TEST(KroneckerSum, ComputesTheItemsThatAreAskedFor) {
  RandomMatrices random(9);
  const KroneckerSum op(random.terms(2, 4, 130, 129));
  const at::Tensor x = random.normal({4, 130, 129});
  at::Tensor all = at::empty_like(x), some = at::full_like(x, NAN);
  op.apply(x, all);
  op.apply(x, some, {1, 3});
  EXPECT_TRUE(at::equal(some[1], all[1]));
  EXPECT_TRUE(at::equal(some[3], all[3]));
}

}  // namespace
}  // namespace amalgam
