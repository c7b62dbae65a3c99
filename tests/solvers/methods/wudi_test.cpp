#include "solvers/methods/wudi.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "solvers/methods/interference.h"
#include "solvers/methods/spectral_case.h"

namespace amalgam {
namespace {

using test::difference;
using test::kEps64;
using test::MergeCase;

const Checkpoint kGoOn = [] {};

at::Tensor change_of(const MergeCase& merge_case, size_t m, const std::string& name) {
  return merge_case.experts[m].at(name).to(at::kDouble) - merge_case.base.at(name).to(at::kDouble);
}

/// Σ α ‖(D − d) dᵀ‖² / ‖d‖².
double objective(const MergeCase& merge_case, const std::string& name, const at::Tensor& change) {
  double sum = 0.0;
  for (size_t m = 0; m < merge_case.experts.size(); ++m) {
    const at::Tensor d = change_of(merge_case, m, name);
    sum += merge_case.weights[m] * ((change - d).mm(d.t()).square().sum() / d.square().sum()).item<double>();
  }
  return sum;
}

/// Adam on that, element by element, its gradient 2 Σ α (D − d) dᵀd / ‖d‖² by tasks.
at::Tensor reference(const MergeCase& merge_case, const std::string& name, int steps, double rate) {
  at::Tensor x = at::zeros_like(change_of(merge_case, 0, name));
  for (size_t m = 0; m < merge_case.experts.size(); ++m) x += merge_case.weights[m] * change_of(merge_case, m, name);
  std::vector<double> first(static_cast<size_t>(x.numel())), second(first);
  for (int step = 1; step <= steps; ++step) {
    at::Tensor gradient = at::zeros_like(x);
    for (size_t m = 0; m < merge_case.experts.size(); ++m) {
      const at::Tensor d = change_of(merge_case, m, name);
      gradient += 2 * merge_case.weights[m] * (x - d).mm(d.t()).mm(d) / d.square().sum();
    }
    const auto* g = gradient.const_data_ptr<double>();
    auto* at_x = x.data_ptr<double>();
    for (size_t i = 0; i < first.size(); ++i) {
      first[i] = 0.9 * first[i] + 0.1 * g[i];
      second[i] = 0.999 * second[i] + 0.001 * g[i] * g[i];
      const double corrected = first[i] / (1 - std::pow(0.9, step)), size = second[i] / (1 - std::pow(0.999, step));
      at_x[i] -= rate * corrected / (std::sqrt(size) + 1e-8);
    }
  }
  return merge_case.base.at(name).to(at::kDouble) + x;
}

TEST(Wudi, MatchesAdamElementByElementInEveryDtype) {
  for (const auto& [dtype, epsilon] : test::kStoredDtypes) {
    MergeCase merge_case;
    test::spectral_case(merge_case, {"a", "b", "c"});
    merge_case.store_as(dtype);
    merge_case.weights = {1.0, 2.0, 0.5};
    merge_case.build();
    const auto merged = merge_case.merge("{method: wudi, iterations: 17, rate: 1e-2}").merged;
    for (const char* name : {"tall", "wide"})
      EXPECT_LE(difference(merged.at(name), reference(merge_case, name, 17, 1e-2)), 1e-11 + 2 * epsilon)
          << name << dtype;
  }
}

TEST(Wudi, DoesAsPublishedByDefault) {
  MergeCase merge_case;
  merge_case.parameter("p", {5, 4});
  merge_case.draw({"a", "b"});
  merge_case.build();
  EXPECT_LE(difference(merge_case.merge("wudi").merged.at("p"), reference(merge_case, "p", 300, 1e-5)), 1e-12);
  EXPECT_LE(difference(merge_case.merge("{method: wudi, iterations: 0}").merged.at("p"),
                       merge_case.experts[0]["p"] + merge_case.experts[1]["p"] - merge_case.base["p"]),
            8 * kEps64);
}

TEST(Wudi, ComesNearerToTheClosedFormWithEveryFurtherRun) {
  MergeCase merge_case;
  merge_case.parameter("p", {6, 5});
  merge_case.draw({"a", "b", "c"});
  merge_case.build();
  const auto value = [&](const std::string& entry) {
    return objective(merge_case, "p", merge_case.merge(entry).merged.at("p") - merge_case.base["p"]);
  };
  const double least = value("{method: data_free, ridge: 0}");
  double before = value("{method: wudi, iterations: 0}");
  for (const int iterations : {300, 3000, 30000}) {
    const double now = value(fmt::format("{{method: wudi, iterations: {}, rate: 1e-4}}", iterations));
    EXPECT_LT(now, before);
    EXPECT_GE(now, least * (1 - 1e-12));
    before = now;
  }
  EXPECT_LE(before, least * (1 + 1e-3));
}

TEST(Wudi, LeavesOutAChangeThatIsZero) {
  MergeCase merge_case;
  merge_case.parameter("p", {4, 3});
  merge_case.draw({"a", "b"});
  merge_case.experts[1] = merge_case.base;
  merge_case.build();
  EXPECT_LE(difference(merge_case.merge("wudi").merged.at("p"), merge_case.experts[0]["p"]), 1e-5);
}

TEST(Wudi, ReportsStepsAndTheRestOfTheGradient) {
  MergeCase merge_case;
  merge_case.parameter("p", {4, 3});
  merge_case.draw({"a", "b"});
  merge_case.build();
  const LayerReport report = merge_case.merge("wudi").report.layers.at(0);
  EXPECT_EQ(report.iterations, 300);
  EXPECT_GT(report.residual, 0.01);
  EXPECT_FALSE(report.converged) << "300 small steps do not reach the minimum, and the report says so";
}

TEST(Adam, MovesByTheRateInItsFirstStep) {
  const at::Tensor start = at::tensor({1.0, -2.0, 0.0}, at::kDouble);
  const at::Tensor moved = adam(
      start, [](const at::Tensor& x) { return x * 4; }, 1, 0.25, kGoOn);
  EXPECT_LE(difference(moved, at::tensor({0.75, -1.75, 0.0}, at::kDouble)), 1e-8);
}

}  // namespace
}  // namespace amalgam
