#include "solvers/streamed_merge.h"

#include <ATen/core/grad_mode.h>
#include <c10/util/accumulate.h>
#include <fmt/format.h>

#include "core/error.h"
#include "solvers/check.h"
#include "solvers/merge_outcome.h"
#include "solvers/methods/task_part_method.h"

namespace amalgam {
namespace {

constexpr double kMegabyte = 1e6;

double bytes_of(const TensorInfo& info) {
  return static_cast<double>(c10::multiply_integers(info.shape)) * static_cast<double>(c10::elementSize(info.dtype));
}

/// Tensors that say so when one of them is read.
class CountedTensors final : public TensorSource {
 public:
  using Count = std::function<void(const std::string& name)>;

  CountedTensors(const TensorSource& source, Count count) : source_(source), count_(std::move(count)) {}

  const std::map<std::string, TensorInfo>& infos() const override { return source_.infos(); }
  at::Tensor get(const std::string& name) const override {
    count_(name);
    return source_.get(name);
  }
  void prefetch(const std::vector<std::string>& names) const override { source_.prefetch(names); }

 private:
  const TensorSource& source_;
  const Count count_;
};

}  // namespace

/// Tells, while a method plans, how much of the experts it has read, and lets it be stopped there: a plan knows no
/// progress, but it reads. A pass ends where a tensor of an expert is read that was read in this pass before.
class StreamedMerge::CountedReads {
 public:
  CountedReads(MergeInput& input, Progress& progress) : progress_(progress) {
    for (size_t m = 0; m < input.experts.size(); ++m) {
      ExpertInput& expert = input.experts[m];
      for (const std::string& name : input.parameters) total_ += bytes_of(expert.tensors->infos().at(name));
      sources_.push_back(std::make_unique<CountedTensors>(*expert.tensors,
                                                          [this, m, source = expert.tensors](const std::string& name) {
                                                            if (planning_)
                                                              count(m, name, bytes_of(source->infos().at(name)));
                                                          }));
      expert.tensors = sources_.back().get();
    }
  }

  void set_planning(bool planning) { planning_ = planning; }

 private:
  void count(size_t expert, const std::string& name, double bytes) {
    if (passes_ == 0 || read_.contains({expert, name})) {
      read_.clear();
      done_ = 0;
      progress_.begin(fmt::format("plan, pass {}, MB", ++passes_), static_cast<int64_t>(total_ / kMegabyte));
    }
    read_.insert({expert, name});
    progress_.update(static_cast<int64_t>(done_ / kMegabyte), name);
    done_ += bytes;
  }

  Progress& progress_;
  std::vector<std::unique_ptr<CountedTensors>> sources_;
  std::set<std::pair<size_t, std::string>> read_;  // in this pass
  double total_ = 0, done_ = 0;                    // bytes
  int passes_ = 0;
  bool planning_ = false;
};

StreamedMerge::StreamedMerge(MergeMethod& method, const MergeInput& input, Progress& progress)
    : method_(method), progress_(progress), input_(input) {
  if (const std::string why = why_not_streamed(method); !why.empty())
    throw InputError(fmt::format("method '{}' needs {}: it cannot be merged in a stream", method.name(), why));
  check_requirements(method, input);
  check_experts(input);
  for (const auto* names : {&input.parameters, &input.buffers})
    for (const std::string& name : *names) infos_[name] = input.experts.front().tensors->infos().at(name);
  reads_ = std::make_unique<CountedReads>(input_, progress);
  plan();
}

StreamedMerge::~StreamedMerge() = default;

void StreamedMerge::plan() {
  const at::NoGradGuard no_grad;
  reads_->set_planning(true);
  method_.plan(input_);
  reads_->set_planning(false);
  Grouping grouping = form_groups(method_, input_);
  for (const MergeGroup& group : grouping.groups) by_method_.insert(group.parameters.begin(), group.parameters.end());
  report_.method = method_.name();
  report_.fallbacks = std::move(grouping.fallbacks);
  report_.merged_parameters = std::ssize(by_method_);
  double total = 0;
  for (const auto& [name, info] : infos_) total += bytes_of(info);
  progress_.begin("merge, MB", static_cast<int64_t>(total / kMegabyte));
}

at::Tensor StreamedMerge::merged(const std::string& name) const {
  if (!by_method_.contains(name)) return value_without_method(input_, name);
  MergeGroup group;
  group.parameters = {name};
  GroupResult result =
      method_.merge_group(input_, group, [&] { progress_.update(static_cast<int64_t>(done_ / kMegabyte), name); });
  check_result(method_, group, result);
  report_.layers.insert(report_.layers.end(), result.reports.begin(), result.reports.end());
  return result.merged.at(name);
}

at::Tensor StreamedMerge::get(const std::string& name) const {
  require_input(infos_.contains(name), "the merge holds no tensor '{}'", name);
  const at::NoGradGuard no_grad;
  const at::Tensor stored = stored_value(method_, input_, name, merged(name));
  check_finite(method_, input_, name, stored);
  done_ += bytes_of(infos_.at(name));
  return stored;
}

void StreamedMerge::prefetch(const std::vector<std::string>& names) const {
  if (method_.requirements().base) input_.base->prefetch(names);
  for (const ExpertInput& expert : input_.experts) expert.tensors->prefetch(names);
}

std::string why_not_streamed(const MergeMethod& method) {
  const MethodRequirements requirements = method.requirements();
  for (const StatisticKind kind : requirements.statistics)
    return fmt::format("the statistic '{}', which is collected from data", name_of(kind));
  if (requirements.adapters) return "adapters";
  if (requirements.runs_models()) return "the models and examples";
  if (keeps_task_parts(method)) return "to keep a part for each task beside what is merged";
  return requirements.layers ? "to know the model's layers" : "";
}

}  // namespace amalgam
