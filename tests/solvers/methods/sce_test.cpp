#include "solvers/methods/sce.h"

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

double variance(const std::vector<Vector>& changes, size_t i) {
  double mean = 0, sum = 0;
  for (const Vector& change : changes) mean += change[i] / static_cast<double>(changes.size());
  for (const Vector& change : changes) sum += (change[i] - mean) * (change[i] - mean);
  return sum / static_cast<double>(changes.size());
}

/// Zeroes all but the `kept` elements with the largest variance.
void select(std::vector<Vector>& changes, size_t kept) {
  std::vector<size_t> order(changes.front().size());
  std::iota(order.begin(), order.end(), size_t{0});
  Vector spread;
  for (const size_t i : order) spread.push_back(variance(changes, i));
  std::stable_sort(order.begin(), order.end(), [&](size_t i, size_t j) { return spread[i] > spread[j]; });
  for (size_t place = kept; place < order.size(); ++place)
    for (Vector& change : changes) change[order[place]] = 0;
}

/// Σ η d / Σ η over those that agree with the sign of Σ α d.
Vector calculate_and_erase(const std::vector<Vector>& changes, const Vector& weights) {
  Vector eta;
  for (size_t m = 0; m < changes.size(); ++m) {
    double sum = 0;
    for (const double value : changes[m]) sum += value * value;
    eta.push_back(weights[m] * sum);
  }
  Vector merged(changes.front().size(), 0.0);
  for (size_t i = 0; i < merged.size(); ++i) {
    double vote = 0, sum = 0, total = 0;
    for (size_t m = 0; m < changes.size(); ++m) vote += weights[m] * changes[m][i];
    for (size_t m = 0; m < changes.size(); ++m) {
      if (changes[m][i] == 0 || (changes[m][i] > 0) != (vote >= 0)) continue;
      sum += eta[m] * changes[m][i];
      total += eta[m];
    }
    if (total > 0) merged[i] = sum / total;
  }
  return merged;
}

Vector naive(const VectorCase& vectors, double density) {
  return vectors.by_parameter([&](const std::string& name) {
    std::vector<Vector> changes = vectors.changes(name);
    const auto n = static_cast<double>(changes.front().size());  // the experts differ in every element
    if (density < 1) select(changes, std::max(size_t{1}, static_cast<size_t>(density * n)));
    return calculate_and_erase(changes, vectors.weights());
  });
}

TEST(Sce, SelectsCalculatesAndErases) {
  for (const at::ScalarType stored : {at::kDouble, at::kFloat}) {
    VectorCase vectors({"a", "b", "c"}, stored);
    vectors.weigh({1.0, 0.5, 2.0}).build();
    vectors.expect_change("sce", naive(vectors, 1.0));
    vectors.expect_change("{method: sce, density: 0.1}", naive(vectors, 0.1));
    vectors.expect_change("{method: sce, density: 0.6}", naive(vectors, 0.6));
  }
}

TEST(Sce, CalculatesHalfPrecisionInFloat32) {
  VectorCase vectors({"a", "b", "c"}, at::kBFloat16);
  vectors.weigh({1.0, 0.5, 2.0}).build();
  vectors.expect_change("sce", naive(vectors, 1.0));
}

TEST(Sce, OfOneTaskOrOfCopiesIsThatExpert) {
  for (const auto& tasks : {std::vector<std::string>{"a"}, {"a", "b", "c"}})
    for (const char* entry : {"sce", "{method: sce, density: 0.1}"}) {
      VectorCase vectors(tasks);
      vectors.with_equal_experts().build();
      vectors.expect_change(entry, vectors.changes()[0]);
    }
}

TEST(Sce, WeighsExpertsByHowFarTheyHaveMoved) {
  test::MergeCase merge_case;
  merge_case.parameter("p", {2});
  merge_case.draw({"a", "b"});
  merge_case.base["p"] = at::zeros({2}, at::kDouble);
  merge_case.experts[0]["p"] = at::tensor({1.0, 1.0}, at::kDouble);   // mean square 1
  merge_case.experts[1]["p"] = at::tensor({3.0, -3.0}, at::kDouble);  // mean square 9
  merge_case.build();
  const at::Tensor merged = merge_case.merge("sce").merged.at("p");
  EXPECT_NEAR(merged[0].item<double>(), 0.1 * 1 + 0.9 * 3, 1e-15);
  EXPECT_NEAR(merged[1].item<double>(), -3, 1e-15);
}

TEST(Sce, WeighsSmallChangesAsLargeOnes) {
  test::MergeCase merge_case;
  merge_case.parameter("p", {1});
  merge_case.draw({"a", "b"});
  merge_case.base["p"] = at::zeros({1}, at::kDouble);
  merge_case.experts[0]["p"] = at::full({1}, 1e-5, at::kDouble);
  merge_case.experts[1]["p"] = at::full({1}, 3e-5, at::kDouble);
  merge_case.build();
  EXPECT_NEAR(merge_case.merge("sce").merged.at("p").item<double>(), 2.8e-5, 1e-19);
}

TEST(Sce, DoesNotHearATaskOfWeightZero) {
  VectorCase vectors({"a", "b", "c"});
  vectors.weigh({1.0, 0.0, 1.0}).build();
  const Vector expected = vectors.by_parameter([&](const std::string& name) {
    std::vector<Vector> changes = vectors.changes(name);
    changes.erase(changes.begin() + 1);
    select(changes, std::max(size_t{1}, changes.front().size() / 2));
    return calculate_and_erase(changes, {1.0, 1.0});
  });
  vectors.expect_change("{method: sce, density: 0.5}", expected);
}

TEST(Sce, RefusesWhatItCannotUse) {
  VectorCase vectors({"a", "b"});
  vectors.weigh({1.0, -1.0}).build();
  EXPECT_THAT(input_error_of([&] { vectors.merge_case.merge("sce"); }), HasSubstr("no negative weight"));
  EXPECT_THAT(input_error_of([&] { vectors.merge_case.merge("{method: sce, density: 2}"); }), HasSubstr("density"));
  vectors.merge_case.input.base = nullptr;
  EXPECT_THAT(input_error_of([&] { vectors.merge_case.merge("sce"); }), HasSubstr("base"));
}

}  // namespace
}  // namespace amalgam
