#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "solvers/methods/method.h"
#include "solvers/methods/names_tasks.h"

namespace amalgam {

/// The lowest `bottom` and the highest `top` blocks of the expert `outer`, the blocks between of the expert `inner`,
/// and at each border between the two `transition` blocks that are the weighted mean of both. Copied blocks are copied
/// to the bit; other experts have no part in it.
///
/// Blocks are found by the numbers in parameter names ("encoder.layer.3."): those of `stack`, by default of the stack
/// that most parameters belong to. With `rest: nearest` what belongs to no block goes with the lowest block where it
/// stands before the first one in the model's order (embeddings), and with the highest block else (a last norm);
/// `average` takes the mean of both. A buffer goes with its block, else with the parameters of its module; one of a
/// module without any is the mean of both. For swapping by name see `passthrough`.
/// @throws InputError in `plan` where there is no such stack, or it has fewer blocks than are asked for
/// @source Bandarkar et al. 2024 (Layer Swapping); it chooses the numbers by model, so the defaults of 1 are ours
class LayerSwap final : public ParameterMethod, public NamesTasks {
 public:
  void check_tasks(const std::vector<ExpertInput>& experts) const override;
  void plan(const MergeInput& input) override;
  at::Tensor merge_parameter(const MergeInput& input, const std::string& name) override;
  std::vector<double> buffer_weights(const MergeInput& input, const std::string& name) const override;

 protected:
  void declare_options(OptionSet& set) override;
  void configure(const std::string& where) override;

 private:
  enum class Owner { kOuter, kInner, kBoth };

  std::pair<size_t, size_t> outer_and_inner(const std::vector<ExpertInput>& experts) const;
  Owner owner_of_block(int64_t block, int64_t blocks) const;
  Owner owner_of_buffer(const std::string& name) const;

  std::string outer_, inner_;
  int64_t bottom_ = 1, top_ = 1, transition_ = 1;
  std::string stack_, rest_ = "nearest", where_;
  size_t outer_expert_ = 0, inner_expert_ = 0;
  std::map<std::string, Owner> owners_;  // of every shared parameter, every block, and every module of a parameter
};

}  // namespace amalgam
