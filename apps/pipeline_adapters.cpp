// Adapters: experts that are trained or given as one, and what a merge of them is as one.
#include <algorithm>
#include <cmath>
#include <set>

#include "apps/collect_task.h"
#include "apps/pipeline.h"
#include "core/digest.h"
#include "core/error.h"
#include "core/low_rank.h"
#include "core/patterns.h"

namespace amalgam {

using nlohmann::json;

/// Targets, ranks and folders of PEFT against the base, or against a model made the way the base will be.
void Pipeline::check_adapters() {
  const auto concerned = [](const TaskSpec& task) {
    return task.expert.trains_adapter() || !task.expert.adapter.empty();
  };
  for (const auto& [where, row] : all_rows(recipe_))
    for (const auto& task : recipe_.tasks)
      require_input(concerned(task) || !needs_of(*row).adapters,
                    "{}: method '{}' merges the factors of low-rank adapters, and the expert of task '{}' is none: "
                    "train it with `expert.train.adapter`, or give a folder of PEFT as `expert.adapter`",
                    where, row->method, task.name);
  if (std::ranges::none_of(recipe_.tasks, concerned)) return;
  std::vector<std::string> names = base_.parameters;
  std::map<std::string, TensorInfo> infos;
  if (base_.tensors) {
    infos = base_.tensors->infos();
  } else {
    const auto model = new_base();
    names = model->parameter_names();
    infos = MemoryTensors(model->parameters()).infos();
  }
  const auto original = base_.tensors ? OriginalNames::of_model(base_.path) : OriginalNames();
  for (const auto& task : recipe_.tasks) {
    const auto where = "tasks." + task.name + ".expert.";
    std::vector<std::string> changed;
    if (task.expert.trains_adapter()) {
      changed = adapter_targets(task.expert.train.finetune.adapter, names, infos, where + "train.adapter");
    } else if (!task.expert.adapter.empty()) {
      const auto given = read_peft(task.expert.adapter, {names, infos, original});
      changed = adapted_weights(MemoryTensors(given.factors));
      for (const auto& [name, vector] : given.vectors) changed.push_back(name);
    }
    for (const auto& name : changed)
      require_input(!is_private(name), "{}adapter: '{}' is private, and adapters are of what is merged; leave it out",
                    where, name);
  }
}

LowRankAdapter Pipeline::new_adapter(const std::string& subject, const TrainSpec& spec, ModelRunner& model,
                                     const Dataset& train_data, const LossSpec& loss) const {
  const auto where = "tasks." + subject + ".expert.train.adapter";
  const auto& options = spec.finetune.adapter;
  const auto targets =
      adapter_targets(options, model.parameter_names(), MemoryTensors(model.parameters()).infos(), where);
  const auto scan = scan_layers(model, scan_examples(train_data), loss);
  check_target_layers(targets, scan.layers, scan.unobserved, where);
  return {model, options, targets, static_cast<uint64_t>(recipe_.seed)};
}

void Pipeline::write_expert_adapter(const std::string& subject, const AdapterSpec& spec,
                                    const LowRankAdapter& adapter) const {
  write_lora(folder().adapter(subject), adapter.values(), {spec.rank, spec.alpha, spec.rslora},
             OriginalNames::of_model(base_.path), base_.path.filename().string());
}

PeftAdapter Pipeline::read_adapter(const std::filesystem::path& folder) const {
  const auto names = OriginalNames::of_model(base_.path);
  return read_peft(folder, {base_.parameters, base_.tensors->infos(), names});
}

/// The expert that an adapter of PEFT makes of the base: weights with the adapter in them.
void Pipeline::fold_adapter(size_t task) {
  const auto& spec = recipe_.tasks[task];
  const auto path = folder().expert(spec.name);
  json inputs = {{"base", base_.digest}, {"base_file", base_.file}};
  for (const auto& file : peft_files(spec.expert.adapter)) inputs["files"].push_back(digest_of_file(file));
  steps_.run("fold", spec.name, inputs, {path}, [&] {
    const auto model = open_model(base_.path, at::kCPU);
    model->set(with_adapter(*base_.tensors, read_adapter(spec.expert.adapter)));
    model->save(path);
    return json::object();
  });
}

void Pipeline::open_adapter(size_t task) {
  const auto& spec = recipe_.tasks[task];
  auto adapter = read_adapter(spec.expert.adapter.empty() ? folder().adapter(spec.name)
                                                          : std::filesystem::path(spec.expert.adapter));
  if (!adapter.factors.empty())
    tasks_[task].expert.adapter = std::make_shared<MemoryTensors>(std::move(adapter.factors));
  tasks_[task].expert.is_ia3 = !adapter.vectors.empty();
}

/// The base's vectors of (IA)³ that are shared; none where PEFT's layout has no place for one of them.
std::vector<std::string> Pipeline::ia3_vectors() const {
  std::vector<std::string> vectors = shared(base_.parameters);
  std::erase_if(vectors, [](const std::string& name) { return !is_ia3_vector(name); });
  if (vectors.empty()) return {};
  const auto names = OriginalNames::of_model(base_.path);
  const AdaptedModel model{base_.parameters, base_.tensors->infos(), names};
  const auto is_known = [&](const std::string& name) { return scales_input(name, model).has_value(); };
  return std::ranges::all_of(vectors, is_known) ? vectors : std::vector<std::string>();
}

/// Whether the training changes such vectors and nothing else that is shared.
bool Pipeline::trains_ia3(const TrainSpec& spec) const {
  const auto vectors = ia3_vectors();
  std::vector<std::string> trained = shared(base_.parameters);
  std::erase_if(trained, [&](const std::string& name) { return !matches_any(spec.finetune.trainable, name); });
  return !spec.finetune.adapter.is_on() && !trained.empty() &&
         std::ranges::all_of(
             trained, [&](const std::string& name) { return std::ranges::find(vectors, name) != vectors.end(); });
}

void Pipeline::write_ia3_vectors(const std::filesystem::path& folder, const TensorSource& source) const {
  NamedTensors vectors;
  for (const auto& name : ia3_vectors()) vectors[name] = source.get(name).detach().cpu();
  const auto names = OriginalNames::of_model(base_.path);
  write_ia3(folder, vectors, {base_.parameters, base_.tensors->infos(), names}, base_.path.filename().string());
}

/// Whether every expert is the base but for its vectors of (IA)³, so that a merge of them is, too.
bool Pipeline::merges_ia3() const {
  return std::ranges::all_of(tasks_, [](const TaskState& task) { return task.expert.is_ia3; }) &&
         !ia3_vectors().empty();
}

/// 0 where not every expert has factors.
int64_t Pipeline::merged_adapter_rank() const {
  int64_t most = 0;
  for (const auto& task : tasks_) {
    if (!task.expert.adapter) return 0;
    const auto first = down_name(adapted_weights(*task.expert.adapter).front());
    most = std::max(most, task.expert.adapter->infos().at(first).shape[0]);
  }
  return recipe_.adapter_rank > 0 ? recipe_.adapter_rank : most;
}

/// @return what the merge's record says of it
json Pipeline::write_merged_adapter(const MergeRow& row, const NamedTensors& merged) const {
  if (!merges_ia3()) return write_merged_factors(row, merged);
  write_ia3_vectors(folder().merged(row.name, ".adapter"), MemoryTensors(merged));
  return {{"vectors", ia3_vectors().size()}};
}

/// The change of the weights that the experts' adapters change, θ* − θ0, as an adapter of a rank.
/// @return what was lost
json Pipeline::write_merged_factors(const MergeRow& row, const NamedTensors& merged) const {
  const int64_t rank = merged_adapter_rank();
  std::set<std::string> weights;
  for (const auto& task : tasks_)
    for (const auto& weight : adapted_weights(*task.expert.adapter)) weights.insert(weight);
  NamedTensors factors;
  json errors = json::object();
  double squared_error = 0, squared_norm = 0;
  for (const auto& weight : weights) {
    const auto base = base_.tensors->get(weight);
    const auto change = merged.at(weight).to(at::kDouble) - base.to(at::kDouble);
    auto [adapter, error, norm] = truncate(change, rank);
    errors[weight] = norm > 0 ? std::sqrt(error / norm) : 0;
    squared_error += error;
    squared_norm += norm;
    const auto dtype = base.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    factors[down_name(weight)] = adapter.down.to(dtype);
    factors[up_name(weight)] = adapter.up.to(dtype);
  }
  write_lora(folder().merged(row.name, ".adapter"), factors, {rank, static_cast<double>(rank), false},
             OriginalNames::of_model(base_.path), base_.path.filename().string());
  const double lost = squared_norm > 0 ? std::sqrt(squared_error / squared_norm) : 0;
  terminal_.message(
      fmt::format("merge {}: as an adapter of rank {} it loses {:.2g} % of the change's norm; the merged "
                  "weights lose nothing",
                  row.name, rank, 100 * lost));
  return {{"rank", rank}, {"relative_error", lost}, {"relative_errors", errors}};
}

}  // namespace amalgam
