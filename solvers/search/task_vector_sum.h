#pragma once

#include <map>
#include <string>
#include <vector>

#include "solvers/methods/method.h"

namespace amalgam {

/// The parameters that such a sum is of: those that the method's `apply_to` and `except` leave it.
/// @throws InputError if there is none
std::vector<std::string> summed_parameters(const MergeInput& input, const MergeMethod& method);

/// What a merged model has in the place of an expert's other shared tensors: as the driver averages them, in the dtypes
/// they are stored in.
NamedTensors tensors_left_aside(const MergeInput& input, const std::vector<std::string>& summed);

/// θ_p = θ0_p + Σ_m λ_gm d_mp for each parameter p of group g, over the tasks of a weight other than zero; d_m = θ_m −
/// θ0. What the method leaves aside is averaged, as the driver does it.
///
/// Holds the base and every change in memory, on the input's device: a search reads all of them at each step.
class TaskVectorSum {
 public:
  /// The ways to form groups: each `parameter` by itself; each `block`, of the parameters whose names agree up to their
  /// first number, or where there is none up to the last dot; the `model` as a whole.
  static const std::vector<std::string>& groupings();

  /// @param method    says which parameters are summed
  /// @param grouping  one of `groupings()`
  /// @throws InputError as `summed_parameters`, or if a change is not finite
  TaskVectorSum(const MergeInput& input, const MergeMethod& method, const std::string& grouping);

  /// d_mp becomes d_mp ⊙ `factor`, of the parameter's shape, for every task.
  void scale_changes(const std::string& name, const at::Tensor& factor);

  const std::vector<std::string>& tasks() const { return tasks_; }
  const std::vector<std::string>& groups() const { return groups_; }
  const std::vector<std::string>& parameters() const { return names_; }

  /// λ_gm = scale α_m: [groups, tasks], float64 on the CPU, as all coefficients.
  at::Tensor uniform(double scale) const;
  /// One parameter, in its shape, on the device, float64 where it is stored so, else float32.
  at::Tensor parameter(const std::string& name, const at::Tensor& coefficients) const;
  /// All that a merged model has in the place of an expert's shared tensors, in the dtypes they are stored in.
  NamedTensors model(const at::Tensor& coefficients) const;
  /// Groups, tasks and coefficients go into the report.
  void describe(const at::Tensor& coefficients, SearchReport& report) const;
  /// ∂L/∂λ_gm = Σ_{p in g} ⟨∂L/∂θ_p, d_mp⟩, summed in float64: [groups, tasks].
  /// @param gradient  ∂L/∂θ_p by name, of every parameter
  at::Tensor slopes(const NamedTensors& gradient) const;

 private:
  struct Part {
    int64_t group = 0;
    TensorInfo stored;
    at::Tensor base;     // [elements]
    at::Tensor changes;  // [tasks, elements]
  };
  void add(const MergeInput& input, const std::string& name, const std::string& group);

  std::vector<std::string> tasks_, groups_, names_;
  std::vector<double> weights_;  // α
  std::map<std::string, Part> parts_;
  NamedTensors rest_;
  at::Device device_;
};

}  // namespace amalgam
