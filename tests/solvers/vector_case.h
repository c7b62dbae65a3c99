#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "solvers/merge_case.h"

namespace amalgam::test {

/// What a naive reference computes with: plain float64 numbers.
using Vector = std::vector<double>;

inline Vector numbers(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.to(at::kDouble).flatten().contiguous();
  return {flat.data_ptr<double>(), flat.data_ptr<double>() + flat.numel()};
}

/// Experts of four parameters of odd sizes, for methods that merge changes from the base element by element. Naive
/// references work on the changes as whole vectors, the parameters one after the other in the model's order.
class VectorCase {
 public:
  static constexpr const char* kNames[] = {"matrix", "vector", "kernel", "scalar"};

  /// @param stored  the dtype that base and experts are stored in
  explicit VectorCase(const std::vector<std::string>& tasks, at::ScalarType stored = at::kDouble, uint64_t seed = 1)
      : merge_case(seed), stored_(stored) {
    merge_case.parameter("matrix", {3, 5});
    merge_case.parameter("vector", {7});
    merge_case.parameter("kernel", {2, 3, 3});
    merge_case.parameter("scalar", {});
    merge_case.draw(tasks);
    for (auto& [name, tensor] : merge_case.base) tensor = tensor.to(stored);
    for (NamedTensors& expert : merge_case.experts)
      for (auto& [name, tensor] : expert) tensor = tensor.to(stored);
  }

  VectorCase& weigh(const std::vector<double>& weights) {
    merge_case.weights = weights;
    return *this;
  }
  VectorCase& with_equal_experts() {
    for (NamedTensors& expert : merge_case.experts) expert = merge_case.experts.front();
    return *this;
  }
  VectorCase& build() {
    merge_case.build();
    return *this;
  }

  const Vector& weights() const { return merge_case.weights; }
  /// d_m of one parameter, one vector an expert.
  std::vector<Vector> changes(const std::string& name) const {
    std::vector<Vector> result;
    const at::Tensor base = merge_case.base.at(name).to(at::kDouble);
    for (const NamedTensors& expert : merge_case.experts)
      result.push_back(numbers(expert.at(name).to(at::kDouble) - base));
    return result;
  }
  /// d_m of the whole model, one vector an expert.
  std::vector<Vector> changes() const {
    std::vector<Vector> result(merge_case.experts.size());
    for (const char* name : kNames) {
      const std::vector<Vector> of_parameter = changes(name);
      for (size_t m = 0; m < result.size(); ++m)
        result[m].insert(result[m].end(), of_parameter[m].begin(), of_parameter[m].end());
    }
    return result;
  }
  /// A reference that looks at one parameter at a time, over all of them.
  Vector by_parameter(const std::function<Vector(const std::string& name)>& reference) const {
    Vector all;
    for (const char* name : kNames) {
      const Vector of_parameter = reference(name);
      all.insert(all.end(), of_parameter.begin(), of_parameter.end());
    }
    return all;
  }

  static Vector whole(const NamedTensors& tensors) {
    Vector all;
    for (const char* name : kNames) {
      const Vector values = numbers(tensors.at(name));
      all.insert(all.end(), values.begin(), values.end());
    }
    return all;
  }

  /// The change that a method makes of one expert alone.
  Vector change_alone(const std::string& entry, size_t expert) {
    for (size_t m = 0; m < merge_case.input.experts.size(); ++m)
      merge_case.input.experts[m].weight = m == expert ? 1.0 : 0.0;
    Vector merged = whole(merge_case.merge(entry).merged);
    const Vector base = whole(merge_case.base);
    for (size_t i = 0; i < merged.size(); ++i) merged[i] -= base[i];
    for (size_t m = 0; m < merge_case.input.experts.size(); ++m)
      merge_case.input.experts[m].weight = merge_case.weights[m];
    return merged;
  }

  /// Merges, and compares with θ0 + `change`: to the rounding of what it is computed in, and of what it is stored in.
  /// @param eps  where a method computes in less than the experts' precision
  void expect_change(const std::string& entry, const Vector& change, double eps = 0.0) {
    SCOPED_TRACE(fmt::format("{}, {}", entry, c10::toString(stored_)));
    const Vector merged = whole(merge_case.merge(entry).merged), base = whole(merge_case.base);
    ASSERT_EQ(merged.size(), change.size());
    const double computed = 64 * std::max(eps, stored_ == at::kDouble ? kEps64 : kEps32);
    const double rounded = stored_ == at::kBFloat16 ? 0x1p-8 : 0.0;
    for (size_t i = 0; i < merged.size(); ++i) {
      const double expected = base[i] + change[i];
      EXPECT_NEAR(merged[i], expected,
                  computed * (std::abs(base[i]) + std::abs(change[i])) + 1.01 * rounded * std::abs(expected))
          << "element " << i;
    }
  }

  MergeCase merge_case;

 private:
  at::ScalarType stored_;
};

inline const at::ScalarType kStoredTypes[] = {at::kDouble, at::kFloat, at::kBFloat16};

}  // namespace amalgam::test
