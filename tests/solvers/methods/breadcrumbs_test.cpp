#include "solvers/methods/breadcrumbs.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <numeric>

#include "expect_error.h"
#include "solvers/vector_case.h"

namespace amalgam {
namespace {

using test::Vector;
using test::VectorCase;
using testing::HasSubstr;

/// Keeps the elements at places `first` … `first + kept − 1` in the order of their sizes, the largest first.
Vector crumbs(const Vector& change, size_t first, size_t kept) {
  std::vector<size_t> order(change.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t i, size_t j) { return std::abs(change[i]) > std::abs(change[j]); });
  Vector result(change.size(), 0.0);
  for (size_t place = first; place < std::min(first + kept, order.size()); ++place)
    result[order[place]] = change[order[place]];
  return result;
}

Vector naive(const VectorCase& vectors, double outliers, double density, double scale) {
  return vectors.by_parameter([&](const std::string& name) {
    const std::vector<Vector> changes = vectors.changes(name);
    const auto n = static_cast<double>(changes.front().size());
    const auto first = static_cast<size_t>(outliers * n), kept = std::max(size_t{1}, static_cast<size_t>(density * n));
    Vector merged(changes.front().size(), 0.0);
    for (size_t m = 0; m < changes.size(); ++m) {
      const Vector kept_changes = crumbs(changes[m], first, kept);
      for (size_t i = 0; i < merged.size(); ++i) merged[i] += scale * vectors.weights()[m] * kept_changes[i];
    }
    return merged;
  });
}

TEST(Breadcrumbs, SumsWhatIsNeitherOutlierNorSmall) {
  for (const at::ScalarType stored : test::kStoredTypes) {
    VectorCase vectors({"a", "b", "c"}, stored);
    vectors.weigh({1.0, 0.5, -2.0}).build();
    vectors.expect_change("breadcrumbs", naive(vectors, 0.01, 0.1, 1.0));
    vectors.expect_change("{method: breadcrumbs, outliers: 0.2, density: 0.5, scale: 0.4}",
                          naive(vectors, 0.2, 0.5, 0.4));
    vectors.expect_change("{method: breadcrumbs, outliers: 0.3, density: 1}", naive(vectors, 0.3, 1.0, 1.0));
  }
}

TEST(Breadcrumbs, OfHandMadeChangesKeepsTheMiddle) {
  test::MergeCase merge_case;
  merge_case.parameter("p", {5});
  merge_case.draw({"a"});
  merge_case.base["p"] = at::zeros({5}, at::kDouble);
  merge_case.experts[0]["p"] = at::tensor({1.0, -5.0, 2.0, -4.0, 3.0}, at::kDouble);
  merge_case.build();
  const auto merged = merge_case.merge("{method: breadcrumbs, outliers: 0.2, density: 0.4}").merged.at("p");
  EXPECT_TRUE(at::equal(merged, at::tensor({0.0, 0.0, 0.0, -4.0, 3.0}, at::kDouble)));
}

TEST(Breadcrumbs, IsTaskArithmeticWhereNothingIsLeftOut) {
  VectorCase vectors({"a", "b"});
  vectors.weigh({1.0, 0.5}).build();
  Vector sum(41, 0.0);
  const std::vector<Vector> changes = vectors.changes();
  for (size_t i = 0; i < sum.size(); ++i) sum[i] = 0.3 * (changes[0][i] + 0.5 * changes[1][i]);
  vectors.expect_change("{method: breadcrumbs, outliers: 0, density: 1, scale: 0.3}", sum);
}

TEST(Breadcrumbs, OfCopiesAddsTheirCrumbsOnceEach) {
  VectorCase vectors({"a", "b", "c"});
  vectors.with_equal_experts().build();
  vectors.expect_change("{method: breadcrumbs, outliers: 0, density: 1, scale: 0.25}", [&] {
    Vector expected = vectors.changes()[0];
    for (double& value : expected) value *= 0.75;
    return expected;
  }());
}

TEST(Breadcrumbs, KeepsNothingWhereAllAreOutliers) {
  VectorCase vectors({"a"});
  vectors.build().expect_change("{method: breadcrumbs, outliers: 1}", Vector(41, 0.0));
}

TEST(Breadcrumbs, RefusesWhatItCannotUse) {
  VectorCase vectors({"a"});
  vectors.build();
  EXPECT_THAT(input_error_of([&] { vectors.merge_case.merge("{method: breadcrumbs, outliers: -1}"); }),
              HasSubstr("outliers"));
  vectors.merge_case.input.base = nullptr;
  EXPECT_THAT(input_error_of([&] { vectors.merge_case.merge("breadcrumbs"); }), HasSubstr("base"));
}

}  // namespace
}  // namespace amalgam
