#include "solvers/methods/layer_swap.h"

#include <tuple>

#include "core/error.h"
#include "solvers/methods/average.h"
#include "solvers/methods/block_names.h"
#include "solvers/methods/experts.h"

namespace amalgam {
namespace {

const RegisterMethod<LayerSwap> registered("layer_swap", "the outer blocks of one expert around the inner of another",
                                           "Bandarkar et al. 2024 (Layer Swapping)");

/// "layer.0.norm." of "layer.0.norm.weight".
std::string module_of(const std::string& name) { return name.substr(0, name.rfind('.') + 1); }

}  // namespace

void LayerSwap::declare_options(OptionSet& set) {
  set.text("outer", outer_, "the task whose expert has the lowest and the highest blocks; must be given");
  set.text("inner", inner_, "the task whose expert has the blocks between; must be given");
  set.integer("bottom", bottom_, {0, 100000}, "lowest blocks that are the outer expert's");
  set.integer("top", top_, {0, 100000}, "highest blocks that are the outer expert's");
  set.integer("transition", transition_, {0, 100000}, "blocks at each border that are the mean of both");
  set.text("stack", stack_, "what the blocks' names begin with, `encoder.layer.`; empty: the largest stack");
  set.choice("rest", rest_, {"nearest", "average"},
             "what belongs to no block. nearest: goes with the lowest or the highest block; average: mean of both");
}

void LayerSwap::configure(const std::string& where) {
  where_ = where;
  if (!stack_.empty() && !stack_.ends_with('.')) stack_ += '.';
}

LayerSwap::Owner LayerSwap::owner_of_block(int64_t block, int64_t blocks) const {
  const int64_t from_top = blocks - 1 - block;
  if (block < bottom_ || from_top < top_) return Owner::kOuter;
  const bool at_bottom = bottom_ > 0 && block < bottom_ + transition_;
  const bool at_top = top_ > 0 && from_top < top_ + transition_;
  return at_bottom || at_top ? Owner::kBoth : Owner::kInner;
}

std::pair<size_t, size_t> LayerSwap::outer_and_inner(const std::vector<ExpertInput>& experts) const {
  require_input(!outer_.empty() && !inner_.empty(), "{}: give `outer` and `inner`, the tasks whose experts are joined",
                where_);
  return {expert_of_task(experts, outer_, where_ + ".outer"), expert_of_task(experts, inner_, where_ + ".inner")};
}

void LayerSwap::check_tasks(const std::vector<ExpertInput>& experts) const { outer_and_inner(experts); }

void LayerSwap::plan(const MergeInput& input) {
  std::tie(outer_expert_, inner_expert_) = outer_and_inner(input.experts);
  const auto blocks = blocks_of_stack(input.parameters, stack_);
  const int64_t count = std::ssize(blocks), borders = (bottom_ > 0 ? 1 : 0) + (top_ > 0 ? 1 : 0);
  require_input(count > 0, "{}: no shared parameter belongs to a block of {}; give `stack`, or take `passthrough`",
                where_, stack_.empty() ? "any stack" : "'" + stack_ + "'");
  require_input(bottom_ + top_ + borders * transition_ <= count,
                "{}: `bottom`, `top` and `transition` take {} blocks, and '{}' has {}", where_,
                bottom_ + top_ + borders * transition_, stack_of(blocks.front()), count);
  std::map<std::string, Owner> of_block;
  for (int64_t i = 0; i < count; ++i) of_block[blocks[static_cast<size_t>(i)]] = owner_of_block(i, count);
  bool before = true;  // the first block
  for (const std::string& name : input.parameters) {
    const auto found = of_block.find(numbered_prefix(name));
    before = before && found == of_block.end();
    const Owner nearest = of_block.at(before ? blocks.front() : blocks.back());
    owners_[name] = found != of_block.end() ? found->second : rest_ == "nearest" ? nearest : Owner::kBoth;
    owners_.emplace(module_of(name), owners_[name]);
  }
  owners_.insert(of_block.begin(), of_block.end());
}

LayerSwap::Owner LayerSwap::owner_of_buffer(const std::string& name) const {
  for (const std::string& prefix : {numbered_prefix(name), module_of(name)})
    if (const auto found = owners_.find(prefix); !prefix.empty() && found != owners_.end()) return found->second;
  return Owner::kBoth;
}

std::vector<double> LayerSwap::buffer_weights(const MergeInput& input, const std::string& name) const {
  const Owner owner = owner_of_buffer(name);
  const double outer = input.experts[outer_expert_].weight, inner = input.experts[inner_expert_].weight;
  const bool whole = owner != Owner::kBoth || outer + inner == 0;
  std::vector<double> weights(input.experts.size(), 0.0);
  if (owner != Owner::kInner) weights[outer_expert_] = whole ? 1.0 : outer;
  if (owner != Owner::kOuter) weights[inner_expert_] = whole ? 1.0 : inner;
  return weights;
}

at::Tensor LayerSwap::merge_parameter(const MergeInput& input, const std::string& name) {
  const ExpertInput &outer = input.experts[outer_expert_], &inner = input.experts[inner_expert_];
  const auto read = [&](const ExpertInput& expert) { return read_parameter(*expert.tensors, name, input.device); };
  switch (owners_.at(name)) {
    case Owner::kOuter:
      return read(outer);
    case Owner::kInner:
      return read(inner);
    case Owner::kBoth:
      break;
  }
  return WeightedMean({outer.weight, inner.weight})([&](size_t expert) { return read(expert == 0 ? outer : inner); });
}

}  // namespace amalgam
