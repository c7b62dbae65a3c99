#include "solvers/methods/dare.h"

#include <set>

#include "core/error.h"
#include "solvers/methods/element_draws.h"
#include "solvers/methods/pieces.h"
#include "solvers/methods/task_vectors.h"

namespace amalgam {
namespace {

const RegisterMethod<Dare> registered("dare", "another method on experts of whose changes a part is dropped at random",
                                      "Yu et al. 2024 (DARE)");

struct Dropping {
  double drop = 0.0, factor = 1.0;
  uint64_t seed = 0;
};

/// An expert of whose parameters some changes from the base are dropped as they are read.
class DroppedTensors final : public TensorSource {
 public:
  /// @param parameters  whose changes are dropped; what else there is stays as it is
  DroppedTensors(const TensorSource& base, const ExpertInput& expert, const std::vector<std::string>& parameters,
                 const Dropping& dropping)
      : base_(base), expert_(expert), dropping_(dropping), infos_(expert.tensors->infos()) {
    for (const std::string& name : parameters) {
      TensorInfo& info = infos_.at(name);
      if (!at::isFloatingType(info.dtype)) continue;
      dropped_.insert(name);
      info.dtype = info.dtype == at::kDouble ? at::kDouble : at::kFloat;  // as methods compute
    }
  }

  const std::map<std::string, TensorInfo>& infos() const override { return infos_; }

  at::Tensor get(const std::string& name) const override {
    if (!dropped_.contains(name)) return expert_.tensors->get(name);
    if (name != last_name_) {
      last_ = drop(name);
      last_name_ = name;
    }
    return last_;
  }

  void prefetch(const std::vector<std::string>& names) const override {
    base_.prefetch(names);
    expert_.tensors->prefetch(names);
  }

 private:
  at::Tensor drop(const std::string& name) const {
    MergeInput alone;
    alone.base = &base_;
    alone.experts = {expert_};
    const TensorInfo& info = infos_.at(name);
    at::Tensor dropped = at::empty(info.shape, info.dtype);
    for_each_piece(alone, name, [&](const MergeInput& piece, int64_t first) {
      const at::Tensor change = task_vector(*piece.base, piece.experts.front(), name, at::kCPU);
      const at::Tensor draws = element_draws(dropping_.seed, "dare", expert_.task, name, change.sizes(), first);
      const at::Tensor kept = (change * dropping_.factor).masked_fill_(draws >= 1.0 - dropping_.drop, 0);
      dropped.view({-1})
          .slice(0, first, first + change.numel())
          .copy_(kept.add_(read_parameter(*piece.base, name, at::kCPU)));
    });
    return dropped;
  }

  const TensorSource& base_;
  const ExpertInput expert_;
  const Dropping dropping_;
  std::map<std::string, TensorInfo> infos_;
  std::set<std::string> dropped_;
  mutable std::string last_name_;  // methods ask for a parameter several times, one after the other
  mutable at::Tensor last_;
};

}  // namespace

void Dare::declare_options(OptionSet& set) {
  set.real("drop", drop_, {0, 1}, "probability that an element's change is dropped, p");
  set.flag("rescale", rescale_, "divide what is left by 1 − p");
  declare_inner(set, "the method that merges these experts");
}

void Dare::configure(const std::string& where) {
  InnerMethod::configure(where);
  refuse_running(where, "without anything dropped");
  require_input(!inner().requirements().adapters,
                "{}.inner: '{}' merges the factors of adapters, of which nothing would be dropped; give a method that "
                "merges whole weights",
                where, inner().name());
  require_input(!merges_by(name()),
                "{}.inner: `dare` in `dare` would draw the same elements twice; give another method, and raise `drop`",
                where);
}

MethodRequirements Dare::requirements() const {
  MethodRequirements requirements = InnerMethod::requirements();
  requirements.base = true;
  return requirements;
}

void Dare::plan(const MergeInput& input) {
  dropped_ = selected(input);
  const Dropping dropping{drop_, rescale_ && drop_ < 1.0 ? 1.0 / (1.0 - drop_) : 1.0, input.seed};
  experts_.clear();
  for (ExpertInput& expert : dropped_.experts) {
    experts_.push_back(std::make_unique<DroppedTensors>(*input.base, expert, dropped_.parameters, dropping));
    expert.tensors = experts_.back().get();
  }
  inner().plan(dropped_);
}

GroupResult Dare::merge_group(const MergeInput& input, const MergeGroup& group, const Checkpoint& checkpoint) {
  TORCH_CHECK(experts_.size() == input.experts.size(), "merging without a plan");
  MergeGroup own = group;
  own.memory = nullptr;  // what the inner method remembers would be of this method's experts alone
  return inner().merge_group(dropped_, own, checkpoint);
}

}  // namespace amalgam
