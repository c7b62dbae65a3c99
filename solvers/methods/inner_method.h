#pragma once

#include <memory>
#include <string>
#include <vector>

#include "solvers/methods/method.h"
#include "solvers/methods/names_tasks.h"

namespace amalgam {

/// A method that merges by another one, its option `inner`, and changes what that one sees or makes. What `inner`
/// needs, cannot merge, or names is asked of it, and whose buffers it takes. Default: task_arithmetic with the scale of
/// its own default.
class InnerMethod : public MergeMethod, public NamesTasks {
 public:
  InnerMethod();

  MethodRequirements requirements() const override { return method_->requirements(); }
  std::string why_not(const ExpertInput& expert, const LayerMatrix& layer) const final;
  std::string batch_key(const MergeInput& input, const LayerMatrix& layer) const final;
  std::vector<double> buffer_weights(const MergeInput& input, const std::string& name) const final {
    return method_->buffer_weights(input, name);
  }
  void check_tasks(const std::vector<ExpertInput>& experts) const final { check_task_names(*method_, experts); }

 protected:
  /// Declares `inner`.
  void declare_inner(OptionSet& set, const std::string& help);
  /// Makes `inner`.
  /// @throws InputError if it selects parameters, or keeps parts of tasks
  void configure(const std::string& where) override;
  /// @param how  they would run, without what this method changes
  /// @throws InputError if `inner` runs the models
  void refuse_running(const std::string& where, const std::string& how) const;
  /// Whether `inner`, or the inner method of that, and so on, is the method of this name.
  bool merges_by(const std::string& method) const;
  /// With the parameters alone that the user leaves to the method. The others stand beside the buffers: they are
  /// averaged as these are, and a search runs the models with them so.
  MergeInput selected(const MergeInput& input) const;

  MergeMethod& inner() const { return *method_; }

 private:
  YAML::Node entry_;
  std::unique_ptr<MergeMethod> method_;
};

}  // namespace amalgam
