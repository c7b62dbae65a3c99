#include "solvers/methods/ties.h"

#include <gmock/gmock.h>

#include <algorithm>

#include "expect_error.h"
#include "solvers/vector_case.h"

namespace amalgam {
namespace {

using test::MergeCase;
using test::Vector;
using test::VectorCase;
using testing::HasSubstr;

/// Zeroes what is smaller than the `kept` largest.
Vector trim(Vector change, int64_t kept) {
  Vector sizes = change;
  for (double& size : sizes) size = std::abs(size);
  std::sort(sizes.begin(), sizes.end(), std::greater<>());
  for (double& value : change)
    if (kept == 0 || std::abs(value) < sizes[static_cast<size_t>(kept - 1)]) value = 0;
  return change;
}

int sign_of(double value) { return value > 0 ? 1 : value < 0 ? -1 : 0; }

/// Σ α d̃ over one element, its sign.
int vote(const std::vector<Vector>& changes, const Vector& weights, size_t i) {
  double sum = 0;
  for (size_t m = 0; m < changes.size(); ++m) sum += weights[m] * changes[m][i];
  return sign_of(sum);
}

/// Election and mean of trimmed changes, one element at a time.
Vector elect(const std::vector<Vector>& changes, const Vector& weights, double scale, int zero_sign) {
  Vector merged(changes.front().size());
  for (size_t i = 0; i < merged.size(); ++i) {
    const int voted = vote(changes, weights, i), sign = voted == 0 ? zero_sign : voted;
    double sum = 0, total = 0;
    for (size_t m = 0; m < changes.size(); ++m) {
      if (changes[m][i] == 0 || sign_of(changes[m][i]) != sign) continue;
      sum += weights[m] * changes[m][i];
      total += weights[m];
    }
    merged[i] = total > 0 ? scale * sum / total : 0;
  }
  return merged;
}

Vector naive_model(std::vector<Vector> changes, const Vector& weights, double density, double scale) {
  for (Vector& change : changes)
    change = trim(change, static_cast<int64_t>(density * static_cast<double>(change.size())));
  int64_t votes = 0;
  for (size_t i = 0; i < changes.front().size(); ++i) votes += vote(changes, weights, i);
  return elect(changes, weights, scale, votes > 0 ? 1 : -1);
}

Vector naive_tensor(const VectorCase& vectors, double density, double scale) {
  return vectors.by_parameter([&](const std::string& name) {
    std::vector<Vector> changes = vectors.changes(name);
    for (Vector& change : changes)
      change = trim(change, std::max(int64_t{1}, static_cast<int64_t>(density * static_cast<double>(change.size()))));
    return elect(changes, vectors.weights(), scale, 1);
  });
}

TEST(Ties, IsThePapersOverTheWholeModel) {
  for (const at::ScalarType stored : test::kStoredTypes) {
    VectorCase vectors({"a", "b", "c"}, stored);
    vectors.weigh({1.0, 0.5, 2.0}).build();
    const std::vector<Vector> changes = vectors.changes();
    vectors.expect_change("ties", naive_model(changes, vectors.weights(), 0.2, 1.0));
    vectors.expect_change("{method: ties, density: 0.55, scale: 1.7}",
                          naive_model(changes, vectors.weights(), 0.55, 1.7));
    vectors.expect_change("{method: ties, density: 1, scale: 0.3}", naive_model(changes, vectors.weights(), 1.0, 0.3));
  }
}

TEST(Ties, TrimsEachTensorByItselfOnRequest) {
  for (const at::ScalarType stored : test::kStoredTypes) {
    VectorCase vectors({"a", "b", "c"}, stored);
    vectors.weigh({1.0, 0.5, 2.0}).build();
    vectors.expect_change("{method: ties, trim: tensor}", naive_tensor(vectors, 0.2, 1.0));
    vectors.expect_change("{method: ties, trim: tensor, density: 0.7, scale: 2}", naive_tensor(vectors, 0.7, 2.0));
  }
}

TEST(Ties, OfOneTaskOrOfCopiesKeepsTheLargestOfItsChange) {
  for (const auto& tasks : {std::vector<std::string>{"a"}, {"a", "b", "c"}}) {
    VectorCase vectors(tasks);
    vectors.with_equal_experts().build();
    const Vector change = vectors.changes()[0];
    vectors.expect_change("{method: ties, density: 1}", change);
    vectors.expect_change("{method: ties, density: 1, trim: tensor}", change);
    vectors.expect_change("ties", trim(change, 8));  // of 41
  }
}

/// Two experts that cancel each other in the first parameter and share a sign in the second.
struct Cancelling {
  MergeCase merge_case;

  explicit Cancelling(double second, const std::string& options) {
    merge_case.parameter("p", {1});
    merge_case.parameter("q", {1});
    merge_case.draw({"a", "b"});
    const auto value = [](double x) { return at::full({1}, x, at::kDouble); };
    merge_case.base = {{"p", value(1)}, {"q", value(1)}};
    merge_case.experts[0] = {{"p", value(1.5)}, {"q", value(1 + second)}};
    merge_case.experts[1] = {{"p", value(0.5)}, {"q", value(1 + second)}};
    merge_case.build();
    first = merge_case.merge("{method: ties, density: 1" + options + "}").merged.at("p").item<double>();
  }
  double first = 0;
};

TEST(Ties, GivesAnElementWithoutAMajorityTheModelsSign) {
  EXPECT_EQ(Cancelling(0.25, "").first, 1.5);
  EXPECT_EQ(Cancelling(-0.25, "").first, 0.5);
  EXPECT_EQ(Cancelling(0.0, "").first, 0.5) << "nobody has a majority anywhere: minus";
  EXPECT_EQ(Cancelling(-0.25, ", trim: tensor").first, 1.5) << "by tensor: plus";
}

TEST(Ties, LooksOnlyAtWhatItMerges) {
  VectorCase vectors({"a", "b"});
  vectors.merge_case.experts[0].at("kernel").fill_(1e3);  // would take every place among the largest
  vectors.build();
  std::vector<Vector> changes(2);
  for (const char* name : {"matrix", "vector", "scalar"}) {
    const std::vector<Vector> of_parameter = vectors.changes(name);
    for (size_t m = 0; m < 2; ++m) changes[m].insert(changes[m].end(), of_parameter[m].begin(), of_parameter[m].end());
  }
  const Vector expected = naive_model(changes, {1.0, 1.0}, 0.2, 1.0);
  const NamedTensors merged = vectors.merge_case.merge("{method: ties, except: [kernel]}").merged;
  const Vector moved = test::numbers(merged.at("matrix") - vectors.merge_case.base.at("matrix"));
  for (size_t i = 0; i < moved.size(); ++i) EXPECT_NEAR(moved[i], expected[i], 1e-14) << i;
}

TEST(Ties, DoesNotHearATaskOfWeightZero) {
  VectorCase vectors({"a", "b", "c"});
  vectors.weigh({1.0, 0.0, 2.0}).build();
  const std::vector<Vector> changes = vectors.changes();
  vectors.expect_change("ties", naive_model({changes[0], changes[2]}, {1.0, 2.0}, 0.2, 1.0));
}

TEST(Ties, KeepsNothingAtDensityZero) {
  VectorCase vectors({"a", "b"});
  vectors.build().expect_change("{method: ties, density: 0}", Vector(41, 0.0));
}

TEST(Ties, RefusesWhatItCannotUse) {
  VectorCase vectors({"a", "b"});
  vectors.weigh({1.0, -1.0}).build();
  EXPECT_THAT(input_error_of([&] { vectors.merge_case.merge("ties"); }), HasSubstr("no negative weight"));
  EXPECT_THAT(input_error_of([&] { vectors.merge_case.merge("{method: ties, density: 1.2}"); }), HasSubstr("density"));
  EXPECT_THAT(input_error_of([&] { vectors.merge_case.merge("{method: ties, trim: layer}"); }), HasSubstr("trim"));
  vectors.merge_case.input.base = nullptr;
  EXPECT_THAT(input_error_of([&] { vectors.merge_case.merge("ties"); }), HasSubstr("base"));
}

}  // namespace
}  // namespace amalgam
