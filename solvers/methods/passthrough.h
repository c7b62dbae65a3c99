#pragma once

#include <string>
#include <vector>

#include "solvers/methods/method.h"
#include "solvers/methods/names_tasks.h"

namespace amalgam {

/// An entry of passthrough's `by_layer`: whose parameters of these names are.
struct OwnerRule {
  std::string pattern, expert;

  void declare(OptionSet& set);
};

/// A copy of one expert's parameters and buffers, to the bit; with `by_layer` others are other experts' (swapping
/// layers by name). Task weights do nothing, but what is left aside is averaged by them.
/// @throws InputError in `plan` for a pattern that no parameter fits
/// @source mergekit
class Passthrough final : public ParameterMethod, public NamesTasks {
 public:
  void check_tasks(const std::vector<ExpertInput>& experts) const override;
  void plan(const MergeInput& input) override;
  at::Tensor merge_parameter(const MergeInput& input, const std::string& name) override;
  std::vector<double> buffer_weights(const MergeInput& input, const std::string& name) const override;

 protected:
  void declare_options(OptionSet& set) override;
  void configure(const std::string& where) override;

 private:
  /// Whose the parameters are: of what no rule fits, then one a rule.
  std::vector<size_t> owners(const std::vector<ExpertInput>& experts) const;
  size_t owner_of(const std::string& name) const;

  std::string expert_;
  std::vector<OwnerRule> by_layer_;
  std::string where_;
  std::vector<size_t> owners_;
};

}  // namespace amalgam
