#include "solvers/methods/pcb.h"

#include <gmock/gmock.h>

#include <algorithm>

#include "expect_error.h"
#include "solvers/vector_case.h"

namespace amalgam {
namespace {

using test::Vector;
using test::VectorCase;
using testing::HasSubstr;

struct Setting {
  double density = 0.05, clamp = 0.01, scale = 1.2;
};

int sign_of(double value) { return value > 0 ? 1 : value < 0 ? -1 : 0; }

Vector sorted(Vector values) {
  std::sort(values.begin(), values.end());
  return values;
}

size_t place(double share, size_t n) { return static_cast<size_t>(share * static_cast<double>(n)); }

/// |d| clamped to its quantiles.
Vector clamped(const Vector& change, double share) {
  Vector sizes;
  for (const double value : change) sizes.push_back(std::abs(value));
  const Vector order = sorted(sizes);
  const size_t n = order.size();
  for (double& size : sizes) size = std::clamp(size, order[place(share, n)], order[place(1 - share, n) - 1]);
  return sizes;
}

/// The method as it is published, with exp(M u²) as it stands.
Vector naive(const std::vector<Vector>& changes, const Vector& weights, const Setting& setting) {
  const size_t experts = changes.size(), n = changes.front().size();
  std::vector<Vector> sizes, unit(experts, Vector(n)), score(experts, Vector(n));
  for (size_t m = 0; m < experts; ++m) {
    sizes.push_back(clamped(changes[m], setting.clamp));
    const auto [least, largest] = std::minmax_element(sizes[m].begin(), sizes[m].end());
    for (size_t i = 0; i < n; ++i) unit[m][i] = sign_of(changes[m][i]) * (sizes[m][i] - *least) / (*largest - *least);
  }
  for (size_t m = 0; m < experts; ++m)
    for (size_t i = 0; i < n; ++i) {
      double inter = 0;
      for (size_t j = 0; j < experts; ++j) inter += weights[j] * std::tanh(unit[m][i] * unit[j][i]);
      score[m][i] = std::exp(static_cast<double>(experts) * unit[m][i] * unit[m][i]) * inter;
    }
  Vector sum(n, 0.0), total(n, 0.0);
  for (size_t m = 0; m < experts; ++m) {
    const Vector order = sorted(score[m]);
    const double threshold = order[place(1 - setting.density, n)], best = order.back();
    for (size_t i = 0; i < n; ++i) {
      const double share = weights[m] * std::max(0.0, score[m][i] - threshold) / (best - threshold);
      sum[i] += share * sign_of(changes[m][i]) * sizes[m][i];
      total[i] += share;
    }
  }
  for (size_t i = 0; i < n; ++i) sum[i] *= setting.scale / std::max(total[i], 1e-12);
  return sum;
}

TEST(Pcb, IsThePapersOverTheWholeModel) {
  for (const at::ScalarType stored : {at::kDouble, at::kFloat}) {
    VectorCase vectors({"a", "b", "c"}, stored);
    vectors.weigh({1.0, 0.5, 2.0}).build();
    const auto expect = [&](const std::string& options, const Setting& setting) {
      // Scores are float32; those near the threshold lose up to two digits in the difference.
      vectors.expect_change("{method: pcb" + options + "}", naive(vectors.changes(), vectors.weights(), setting),
                            64 * test::kEps32);
    };
    expect("", {});
    expect(", density: 0.3, scale: 1", {0.3, 0.01, 1.0});
    expect(", density: 0.6, clamp: 0.1", {0.6, 0.1, 1.2});
    expect(", density: 1, clamp: 0", {1.0, 0.0, 1.2});
  }
}

TEST(Pcb, CalculatesHalfPrecisionInFloat32) {
  VectorCase vectors({"a", "b"}, at::kBFloat16);
  vectors.build();
  vectors.expect_change("{method: pcb, density: 0.5}", naive(vectors.changes(), {1.0, 1.0}, {0.5, 0.01, 1.2}));
}

TEST(Pcb, OfOneTaskOrOfCopiesKeepsTheLargestOfItsChange) {
  for (const auto& tasks : {std::vector<std::string>{"a"}, {"a", "b", "c"}}) {
    VectorCase vectors(tasks);
    vectors.with_equal_experts().build();
    const Vector change = vectors.changes()[0], sizes = clamped(change, 0.0), order = sorted(sizes);
    Vector expected(change.size(), 0.0);  // the score grows with the size: all above the one at the threshold
    for (size_t i = 0; i < change.size(); ++i)
      if (sizes[i] > order[place(0.7, order.size())]) expected[i] = change[i];
    vectors.expect_change("{method: pcb, density: 0.3, clamp: 0, scale: 1}", expected, test::kEps32);
  }
}

TEST(Pcb, DoesNotDependOnTheScaleOfAnExpertsChange) {
  VectorCase vectors({"a", "b"}), scaled({"a", "b"});
  for (auto& [name, tensor] : scaled.merge_case.experts[0])
    tensor = scaled.merge_case.base.at(name) + (tensor - scaled.merge_case.base.at(name)) * 1e-3;
  vectors.build();
  scaled.build();
  const Vector kept = vectors.change_alone("{method: pcb, density: 0.4, clamp: 0}", 0),
               kept_scaled = scaled.change_alone("{method: pcb, density: 0.4, clamp: 0}", 0);
  for (size_t i = 0; i < kept.size(); ++i) EXPECT_NEAR(kept_scaled[i], 1e-3 * kept[i], 1e-7) << i;
}

TEST(Pcb, AveragesChangesThatAreAllOfOneSize) {
  VectorCase vectors({"a", "b"});
  for (auto& [name, tensor] : vectors.merge_case.base) tensor.fill_(1.0);
  for (NamedTensors& expert : vectors.merge_case.experts)
    for (auto& [name, tensor] : expert) tensor.fill_(1.25);
  vectors.build().expect_change("{method: pcb, scale: 1}", Vector(41, 0.25));
}

TEST(Pcb, DoesNotHearATaskOfWeightZero) {
  VectorCase vectors({"a", "b", "c"});
  vectors.weigh({1.0, 0.0, 2.0}).build();
  const std::vector<Vector> changes = vectors.changes();
  vectors.expect_change("{method: pcb, density: 0.3}", naive({changes[0], changes[2]}, {1.0, 2.0}, {0.3, 0.01, 1.2}),
                        64 * test::kEps32);
}

TEST(Pcb, LooksOnlyAtWhatItMerges) {
  VectorCase vectors({"a", "b"});
  for (NamedTensors& expert : vectors.merge_case.experts) expert.at("kernel").fill_(1e3);
  vectors.build();
  const NamedTensors merged = vectors.merge_case.merge("{method: pcb, density: 0.5, except: [kernel]}").merged;
  // Beside changes of 1000 all others would have the size 0 and the score 0.
  EXPECT_GT(test::difference(merged.at("matrix"), vectors.merge_case.base.at("matrix")), 0.05);
}

TEST(Pcb, TakesManyExperts) {
  std::vector<std::string> tasks;
  for (int m = 0; m < 90; ++m) tasks.push_back(fmt::format("task{}", m));  // exp(90) is no float32
  VectorCase vectors(tasks, at::kFloat);
  vectors.build().expect_change("{method: pcb, density: 0.3}",
                                naive(vectors.changes(), vectors.weights(), {0.3, 0.01, 1.2}), 256 * test::kEps32);
}

TEST(Pcb, RefusesWhatItCannotUse) {
  VectorCase vectors({"a", "b"});
  vectors.weigh({1.0, -1.0}).build();
  EXPECT_THAT(input_error_of([&] { vectors.merge_case.merge("pcb"); }), HasSubstr("no negative weight"));
  EXPECT_THAT(input_error_of([&] { vectors.merge_case.merge("{method: pcb, clamp: 0.6}"); }), HasSubstr("clamp"));
  vectors.merge_case.input.base = nullptr;
  EXPECT_THAT(input_error_of([&] { vectors.merge_case.merge("pcb"); }), HasSubstr("base"));
}

}  // namespace
}  // namespace amalgam
