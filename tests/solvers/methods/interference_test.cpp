#include "solvers/methods/interference.h"

#include <gtest/gtest.h>

#include "solvers/random_matrices.h"

namespace amalgam {
namespace {

using test::difference;
using test::RandomMatrices;

/// Three changes of one shape: those with more columns than rows in all leave directions that none of them changes.
struct Changes {
  std::vector<at::Tensor> changes;
  std::vector<double> weights{0.5, 2.0, 1.0};
  RandomMatrices random{7};
  Changes(int64_t rows, int64_t columns) {
    for (int m = 0; m < 3; ++m) changes.push_back(random.normal({rows, columns}));
  }
  double value(const at::Tensor& d) const {
    double sum = 0.0;
    for (size_t m = 0; m < changes.size(); ++m)
      sum += weights[m] * (d - changes[m]).mm(changes[m].t()).square().sum().item<double>();
    return sum;
  }
};

const std::vector<std::pair<int64_t, int64_t>> kShapes = {{7, 5}, {2, 5}, {1, 9}, {2, 11}, {6, 1}};

TEST(Interference, HasTheGradientOfItsValue) {
  for (const auto& [rows, columns] : kShapes) {
    Changes given(rows, columns);
    const Interference objective(given.changes, given.weights);
    const at::Tensor d = given.random.normal({rows, columns}), gradient = objective.gradient(d);
    // f is quadratic, so that the central difference is exact but for rounding.
    for (int trial = 0; trial < 3; ++trial) {
      const at::Tensor direction = given.random.normal({rows, columns});
      const double slope = (given.value(d + direction) - given.value(d - direction)) / 2;
      EXPECT_NEAR((gradient * direction).sum().item<double>(), slope, 1e-11 * given.value(d));
    }
  }
}

// An embedding's rows: what is as large as rows², here 80 GB for each change, is never made.
TEST(Interference, OfManyRowsTakesTheMemoryOfItsColumns) {
  Changes given(100000, 3);
  const Interference objective(given.changes, given.weights);
  const at::Tensor best = objective.minimiser(0);
  const double size = objective.gradient(at::zeros_like(best)).norm().item<double>();
  EXPECT_LE(objective.gradient(best).norm().item<double>(), 1e-11 * size);
}

TEST(Interference, IsLeastAtItsMinimiser) {
  for (const auto& [rows, columns] : kShapes) {
    Changes given(rows, columns);
    const Interference objective(given.changes, given.weights);
    const at::Tensor best = objective.minimiser(0);
    const double size = objective.gradient(at::zeros_like(best)).norm().item<double>();
    EXPECT_LE(objective.gradient(best).norm().item<double>(), 1e-11 * size);
    for (int trial = 0; trial < 3; ++trial) {
      const at::Tensor other = best + 1e-3 * given.random.normal({rows, columns});
      EXPECT_GT(given.value(other), given.value(best));
    }
  }
}

TEST(Interference, LeavesOutDirectionsThatNoExpertChanged) {
  Changes given(2, 11);
  const at::Tensor best = Interference(given.changes, given.weights).minimiser(0);
  const at::Tensor rows = at::cat(given.changes, 0);  // [6, 11]
  const at::Tensor onto = rows.t().mm(at::linalg_inv(rows.mm(rows.t()))).mm(rows);
  EXPECT_LE(difference(best.mm(onto), best), 1e-12);
}

TEST(Interference, WithARidgeSolvesTheRidgedSystem) {
  for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{7, 5}, {2, 11}}) {
    Changes given(rows, columns);
    at::Tensor gram = at::zeros({columns, columns}, at::kDouble), rhs = at::zeros({rows, columns}, at::kDouble);
    for (size_t m = 0; m < 3; ++m) {
      const at::Tensor own = given.weights[m] * given.changes[m].t().mm(given.changes[m]);
      gram += own;
      rhs += given.changes[m].mm(own);
    }
    const at::Tensor ridged = gram + 0.1 * gram.diagonal().mean() * at::eye(columns, at::kDouble);
    const at::Tensor expected = rhs.mm(at::linalg_inv(ridged));
    EXPECT_LE(difference(Interference(given.changes, given.weights).minimiser(0.1), expected), 1e-12);
  }
}

TEST(Interference, OfNoChangeIsLeastAtZero) {
  const Interference objective({at::zeros({3, 4}, at::kDouble)}, {1.0});
  EXPECT_TRUE(at::equal(objective.minimiser(0), at::zeros({3, 4}, at::kDouble)));
}

}  // namespace
}  // namespace amalgam
