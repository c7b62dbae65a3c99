#include "solvers/merge.h"

#include <ATen/core/grad_mode.h>
#include <c10/util/accumulate.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <span>

#include "core/error.h"
#include "core/task_parts.h"
#include "solvers/check.h"
#include "solvers/merge_outcome.h"
#include "solvers/merge_plan.h"
#include "solvers/merge_share.h"
#include "solvers/methods/experts.h"
#include "solvers/methods/task_part_method.h"
#include "solvers/partly_merged.h"
#include "solvers/plan_reads.h"

namespace amalgam {
namespace {

const TensorInfo& info(const MergeInput& input, const std::string& name) {
  return input.experts.front().tensors->infos().at(name);
}

/// Some variants, once over the model.
class Pass {
 public:
  Pass(std::span<MergeMethod* const> methods, const MergeInput& input, Progress& progress,
       const MergeArrangement& arrangement)
      : methods_(methods),
        input_(input),
        reads_(input_, progress),
        progress_(progress),
        processes_(arrangement.processes),
        search_work_{progress, arrangement.search_folder, arrangement.search_identity} {}

  /// On the root the outcomes, elsewhere nothing.
  std::vector<MergeOutcome> run() {
    const auto begin = std::chrono::steady_clock::now();
    bool stopped = false;
    try {
      for (MergeMethod* method : methods_)
        if (is_root()) method->search(input_, search_work_);
      plan();
      progress_.begin("merge", static_cast<int64_t>(input_.parameters.size() * methods_.size()));
      if (is_root()) average_the_rest();
      merge_own();
    } catch (const Interrupted&) {
      if (!is_shared()) throw;
      stopped = true;  // the others still work, and wait for this one when they are done
    }
    if (is_shared() && processes_->any(stopped)) throw Interrupted();
    if (is_shared()) gather();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    std::vector<MergeOutcome> outcomes;
    for (size_t v = 0; is_root() && v < builders_.size(); ++v) {
      outcomes.push_back(builders_[v].finish(plan_->fallbacks(v), seconds));
      outcomes.back().report.search = methods_[v]->search_report();
    }
    for (size_t v = 0; v < outcomes.size(); ++v) keep_task_parts(*methods_[v], outcomes[v]);
    progress_.end();
    return outcomes;
  }

 private:
  bool is_shared() const { return processes_ != nullptr && processes_->size() > 1; }
  bool is_root() const { return processes_ == nullptr || processes_->is_root(); }
  int rank() const { return processes_ == nullptr ? 0 : processes_->rank(); }

  void plan() {
    for (MergeMethod* method : methods_) {
      reads_.during([&] { method->plan(input_); });
      builders_.emplace_back(*method, input_);
    }
    plan_.emplace(methods_, input_);
    results_.resize(plan_->work().size());
    const bool all_at_root = methods_.front()->requirements().runs_models();
    if (is_shared() && !all_at_root) plan_->share(processes_->size());
  }

  /// Whether a group needs what the groups before it left.
  bool is_sequential() const { return methods_.front()->requirements().probe; }

  /// Before the groups: where layers merge some rows of a parameter, these go over the average's.
  void average_the_rest() {
    for (const auto& [name, averaged] : plan_->averaged()) {
      progress_.update(finished_, name);
      const at::Tensor value = value_without_method(input_, name);
      for (const size_t v : averaged.variants) builders_[v].store(name, value);
      finished_ += averaged.whole;
    }
    for (const std::string& name : input_.buffers)
      for (size_t v = 0; v < builders_.size(); ++v) builders_[v].store(name, merged_buffer(*methods_[v], input_, name));
  }

  void merge_own() {
    std::vector<size_t> own;
    for (size_t i = 0; i < plan_->work().size(); ++i)
      if (plan_->work()[i].process == rank()) own.push_back(i);
    if (is_sequential()) return merge_blocks(own);
    for (size_t i = 0; i < own.size(); ++i) {
      if (i + 1 < own.size()) prefetch(plan_->work()[own[i + 1]], methods_, input_);
      merge_group(own[i]);
    }
  }

  /// One after the other, each with a view of the model as it stands.
  void merge_blocks(const std::vector<size_t>& own) {
    std::vector<LayerMatrix> layers;
    for (const size_t i : own) {
      const auto& of_block = plan_->work()[i].group->layers;
      layers.insert(layers.end(), of_block.begin(), of_block.end());
    }
    if (own.empty()) return;
    announce_blocks(own.size());
    PartlyMerged so_far(builders_.front().merged(), std::move(layers));
    for (const size_t i : own) {
      merge_group(i, &so_far);
      so_far.advance(plan_->work()[i].group->layers.size());
    }
  }

  /// Says what it takes to run the models while merging: the one thing that makes a merge as long as collecting, and
  /// longer.
  void announce_blocks(size_t blocks) {
    const size_t heard = heard_experts(input_).size();
    progress_.message(
        fmt::format("{}: {} block{} one after the other, each with one forward pass over the examples of {} task{}",
                    methods_.front()->name(), blocks, blocks == 1 ? "" : "s", heard, heard == 1 ? "" : "s"));
  }

  void merge_group(size_t index, const PartlyMerged* so_far = nullptr) {
    const GroupWork& work = plan_->work()[index];
    MergeGroup group = *work.group;
    group.so_far = so_far;
    if (work.variants.size() > 1) group.memory = std::make_shared<GroupMemory>();
    const std::string& first = group.layers.empty() ? group.parameters.front() : group.layers.front().layer().name;
    const std::string& note = group.block.empty() ? first : group.block;
    const Checkpoint checkpoint = [&] { progress_.update(finished_, note); };
    for (const size_t v : work.variants) {
      checkpoint();
      GroupResult result = methods_[v]->merge_group(input_, group, checkpoint);
      check_result(*methods_[v], group, result);
      if (is_root())
        finished_ += builders_[v].add(group, result);
      else
        results_[index].push_back(settled(std::move(result), group, input_));
    }
  }

  /// The others' results, in the order of the groups: each process has merged its own in that order.
  void gather() {
    for (size_t w = 0; w < plan_->work().size(); ++w) {
      const GroupWork& work = plan_->work()[w];
      if (work.process == 0 || (!is_root() && work.process != rank())) continue;
      for (size_t i = 0; i < work.variants.size(); ++i) {
        const GroupResult own = is_root() ? GroupResult{} : std::move(results_[w][i]);
        const GroupResult result = to_root(own, *work.group, *processes_, work.process);
        if (is_root()) finished_ += builders_[work.variants[i]].add(*work.group, result);
      }
      if (is_root()) progress_.update(finished_, "");
    }
  }

  void keep_task_parts(MergeMethod& method, MergeOutcome& outcome) {
    auto* keeping = dynamic_cast<TaskPartMethod*>(&method);
    if (keeping == nullptr) return;
    for (const std::string& name : input_.parameters) {
      progress_.update(finished_, name);
      if (!method.selects(name) || !at::isFloatingType(info(input_, name).dtype)) continue;
      for (const auto& [part, tensor] : keeping->task_parts(input_, name, outcome.merged.at(name)))
        outcome.task_parts[part] = tensor.cpu();
    }
    for (const std::string& name : input_.buffers)
      for (const ExpertInput& expert : input_.experts)
        outcome.task_parts[part_name(expert.task, name)] = expert.tensors->get(name);
  }

  std::span<MergeMethod* const> methods_;
  MergeInput input_;  // whose reads can be stopped while a method plans
  PlanReads reads_;
  Progress& progress_;
  const ProcessGroup* processes_;
  SearchWork search_work_;
  std::vector<OutcomeBuilder> builders_;  // one a variant
  std::optional<MergePlan> plan_;
  std::vector<std::vector<GroupResult>> results_;  // of each group that is not the root's, one a variant
  int64_t finished_ = 0;                           // parameters, of all variants
};

int64_t model_bytes(const MergeInput& input) {
  int64_t bytes = 0;
  for (const auto* names : {&input.parameters, &input.buffers})
    for (const std::string& name : *names)
      bytes += c10::multiply_integers(info(input, name).shape) *
               static_cast<int64_t>(c10::elementSize(info(input, name).dtype));
  return bytes;
}

}  // namespace

void merge_variants(const std::vector<MergeMethod*>& methods, const MergeInput& input, Progress& progress,
                    const TakeOutcome& take, const MergeArrangement& arrangement) {
  const at::NoGradGuard no_grad;
  for (const MergeMethod* method : methods) check_requirements(*method, input);
  check_experts(input);
  const bool alone = std::any_of(methods.begin(), methods.end(),
                                 [](const MergeMethod* method) { return method->requirements().runs_models(); });
  const auto at_once = alone ? size_t{1}
                             : static_cast<size_t>(std::max(
                                   int64_t{1}, arrangement.merged_bytes / std::max(int64_t{1}, model_bytes(input))));
  for (size_t begin = 0; begin < methods.size(); begin += at_once) {
    const size_t count = std::min(at_once, methods.size() - begin);
    std::vector<MergeOutcome> outcomes =
        Pass(std::span(methods).subspan(begin, count), input, progress, arrangement).run();
    for (size_t v = 0; v < outcomes.size(); ++v) take(begin + v, std::exchange(outcomes[v], {}));
  }
}

MergeOutcome merge(MergeMethod& method, const MergeInput& input, Progress& progress,
                   const MergeArrangement& arrangement) {
  MergeOutcome only;
  merge_variants(
      {&method}, input, progress, [&](size_t, MergeOutcome outcome) { only = std::move(outcome); }, arrangement);
  return only;
}

}  // namespace amalgam
