// The base and the experts: made by fine-tuning, or given as files; then opened as mapped tensors.
#include <algorithm>
#include <iterator>
#include <mutex>

#include "apps/pipeline.h"
#include "core/atomic_file.h"
#include "core/digest.h"
#include "core/error.h"
#include "core/patterns.h"
#include "core/random.h"
#include "datasets/loader.h"
#include "datasets/transforms.h"
#include "datasets/union_dataset.h"
#include "models/architectures/architecture.h"
#include "models/artefact.h"
#include "models/evaluate.h"
#include "solvers/relative_change.h"

namespace amalgam {
namespace {

using nlohmann::json;

json to_json(const FinetuneResult& result) {
  json curve = json::array();
  for (const auto& point : result.curve)
    curve.push_back({{"step", point.step},
                     {"train_loss", point.train_loss},
                     {"val_value", point.val_metric},
                     {"val_loss", point.val_loss}});
  return {{"curve", curve}, {"best_step", result.best_step}};
}

/// The options as inputs of the step. Those that came after the first version are left out where they say nothing, so
/// that models made without them are still known.
std::string train_inputs(const TrainSpec& spec) {
  YAML::Node node = write_options(spec);
  if (spec.finetune.patience == 0) node.remove("patience");
  if (spec.finetune.heads.steps == 0) node.remove("heads");
  if (spec.finetune.trainable == std::vector<std::string>{"*"}) node.remove("trainable");
  if (!spec.finetune.adapter.is_on()) node.remove("adapter");
  return yaml_text(node);
}

/// What a model draws while it is trained, dropout say, comes from LibTorch's own generators.
void seed_own_draws(uint64_t seed, const std::string& subject, at::Device device) {
  const uint64_t drawn = RandomStream(seed, "dropout/" + subject).bits(0);
  for (const auto where : {at::Device(at::kCPU), device}) {
    auto generator = at::globalContext().defaultGenerator(where);
    const std::lock_guard lock(generator.mutex());
    generator.set_current_seed(drawn);
  }
}

}  // namespace

bool Pipeline::is_private(const std::string& name) const { return matches_any(recipe_.private_patterns, name); }

std::vector<std::string> Pipeline::shared(const std::vector<std::string>& names) const {
  std::vector<std::string> result;
  std::copy_if(names.begin(), names.end(), std::back_inserter(result),
               [&](const std::string& name) { return !is_private(name); });
  return result;
}

std::unique_ptr<ModelRunner> Pipeline::new_base() {
  const auto& data = *base_data_.at(Split::kTrain);
  return make_architecture(recipe_.base.train.architecture, recipe_.base.train.architecture_options, data.input_shape(),
                           data.classes(), static_cast<uint64_t>(recipe_.seed), device_);
}

/// The task's place among several data sections that the base is trained on.
std::optional<size_t> Pipeline::part_of_base(size_t task) const {
  const auto& parts = recipe_.base_data;
  const std::string own = describe(recipe_.tasks[task].data);
  const auto found = std::ranges::find_if(parts, [&](const DataSpec& part) { return describe(part) == own; });
  if (parts.size() < 2 || found == parts.end()) return std::nullopt;
  return static_cast<size_t>(found - parts.begin());
}

/// Whether an expert that is trained here has a head of its task's number of classes.
bool Pipeline::has_own_head() const {
  return !recipe_.private_patterns.empty() && !recipe_.base.train.architecture.empty();
}

/// Of a base that is made here: the layers that the expert will have, with new parameters.
std::unique_ptr<ModelRunner> Pipeline::untrained_expert(size_t task) {
  if (!has_own_head()) return new_base();
  const auto& data = dataset(task, Split::kTrain);
  return make_architecture(
      recipe_.base.train.architecture, recipe_.base.train.architecture_options, data.input_shape(), data.classes(),
      RandomStream(static_cast<uint64_t>(recipe_.seed), "head/" + recipe_.tasks[task].name).bits(0), device_);
}

/// A model with the base's shared parameters, and, where heads are private and the architecture is known, with a head
/// of the task's number of classes: its rows of the base's, where the base was trained on this task among others, else
/// a new one.
std::unique_ptr<ModelRunner> Pipeline::new_expert(size_t task) {
  if (!has_own_head()) return open_model(base_.path, device_, {.output = recipe_.tasks[task].output});
  const auto& data = dataset(task, Split::kTrain);
  auto model = untrained_expert(task);
  const auto part = part_of_base(task);
  NamedTensors values;
  for (const auto& [name, info] : base_.tensors->infos()) {
    if (!is_private(name)) {
      values[name] = base_.tensors->get(name);
    } else if (part && name.starts_with("head.")) {
      const auto& whole = dynamic_cast<const UnionDataset&>(*base_data_.at(Split::kTrain));
      values[name] = base_.tensors->get(name).narrow(0, whole.first_class(*part), data.classes());
    }
  }
  model->set(values);
  return model;
}

json Pipeline::train(const std::string& subject, const TrainSpec& spec, const json& inputs, const Dataset& train_data,
                     const Dataset& val_data, const TaskSpec& task, const std::filesystem::path& path,
                     const std::function<std::unique_ptr<ModelRunner>()>& make) {
  json all = inputs;
  all["seed"] = recipe_.seed;
  all["train"] = train_inputs(spec);
  const bool staged = spec.finetune.heads.steps > 0;
  all["loss"] = yaml_text(write_options(task.loss));
  all["metric"] = task.metric;
  all["output"] = task.output;
  all["train_data"] = train_data.digest();
  all["val_data"] = val_data.digest();
  std::vector outputs = {path};
  const bool is_ia3 = trains_ia3(spec);
  if (spec.finetune.adapter.is_on() || is_ia3)
    std::ranges::copy(peft_files(folder().adapter(subject)), std::back_inserter(outputs));
  const auto work = [&] {
    auto model = make();
    LoaderOptions training;
    training.batch = spec.finetune.batch;
    training.shuffle = training.drop_last = true;
    training.seed = static_cast<uint64_t>(recipe_.seed);
    training.label = subject;
    Loader train_loader(train_data, training, parse_transforms(spec.augment, subject + ".train.augment"));
    LoaderOptions evaluation;
    evaluation.batch = recipe_.evaluate.batch;
    Loader val_loader(val_data, evaluation);
    terminal_.about(subject);
    std::optional<LowRankAdapter> adapter;
    if (spec.finetune.adapter.is_on()) adapter.emplace(new_adapter(subject, spec, *model, train_data, task.loss));
    LowRankAdapter* const adapted = adapter ? &*adapter : nullptr;
    seed_own_draws(training.seed, subject, device_);
    json details;
    if (staged) {
      std::vector<std::string> heads;
      std::ranges::copy_if(model->parameter_names(), std::back_inserter(heads),
                           [&](const std::string& name) { return is_private(name); });
      const auto result = finetune_in_stages(*model, train_loader, val_loader, task.loss, task.metric, heads,
                                             spec.finetune, terminal_, adapted);
      details = to_json(result.rest);
      details["heads"] = to_json(result.heads);
    } else {
      const auto frozen = adapted != nullptr ? shared(model->parameter_names()) : std::vector<std::string>{};
      details = to_json(finetune(*model, train_loader, val_loader, task.loss, task.metric, frozen, spec.finetune,
                                 terminal_, adapted));
    }
    model->save(path);
    if (adapted != nullptr) write_expert_adapter(subject, spec.finetune.adapter, *adapted);
    if (is_ia3) write_ia3_vectors(folder().adapter(subject), MemoryTensors(model->parameters()));
    return details;
  };
  try {
    return steps_.run("train", subject, all, outputs, work);
  } catch (const InputError& error) {
    throw InputError(fmt::format("train {}: {}", subject, error.what()));
  }
}

/// ‖θ_m − θ0‖ / ‖θ0‖ of each shared parameter that is the base's in shape, in the model's order.
json Pipeline::changes_from_base(const std::string& name, const TensorSource& expert,
                                 const std::vector<std::string>& parameters) const {
  MergeInput input;
  input.base = base_.tensors.get();
  input.experts = {{name, 1.0, &expert, nullptr}};
  for (const auto& parameter : shared(parameters)) {
    const auto known = base_.tensors->infos().find(parameter);
    if (known != base_.tensors->infos().end() && known->second == expert.infos().at(parameter))
      input.parameters.push_back(parameter);
  }
  const auto changes = relative_changes(input);
  json ordered = json::array();
  for (const auto& parameter : input.parameters)
    if (changes.contains(parameter)) ordered.push_back({parameter, changes.at(parameter)[0]});
  return ordered;
}

Pipeline::OpenedModel Pipeline::open_tensors(const std::string& name, const std::filesystem::path& path) {
  OpenedModel opened;
  opened.path = path;
  opened.file = digest_of_file(path);
  json inputs = {{"file", opened.file}, {"base", name == "base" ? "" : base_.digest}};
  if (name != "base" && !recipe_.private_patterns.empty()) inputs["private"] = recipe_.private_patterns;
  const auto record = steps_.run("open", name, inputs, {folder().tensors(name)}, [&] {
    const auto model = open_model(path, at::kCPU);
    const auto tensors = tensors_of(*model);
    json details = {{"digest", digest_of(MemoryTensors(tensors))},
                    {"parameters", model->parameter_names()},
                    {"buffers", json::array()}};
    for (const auto& [buffer, tensor] : model->buffers()) details["buffers"].push_back(buffer);
    if (name != "base")
      details["relative_change"] = changes_from_base(name, MemoryTensors(tensors), model->parameter_names());
    write_safetensors(folder().tensors(name), tensors, {{"model", name}});
    return details;
  });
  const auto& details = record.at("details");
  opened.tensors = std::make_shared<SafetensorsFile>(folder().tensors(name));
  details.at("digest").get_to(opened.digest);
  details.at("parameters").get_to(opened.parameters);
  details.at("buffers").get_to(opened.buffers);
  return opened;
}

std::unique_ptr<Dataset> Pipeline::open_base_data(Split split) {
  const auto seed = static_cast<uint64_t>(recipe_.seed);
  const auto& specs = recipe_.base_data;
  if (specs.size() == 1) return open_dataset(specs[0], split, seed, "base", files_);
  std::vector<std::unique_ptr<Dataset>> parts;
  std::vector<std::string> names;
  for (size_t i = 0; i < specs.size(); ++i) {
    parts.push_back(open_dataset(specs[i], split, seed, fmt::format("base/{}", i), files_));
    names.push_back(fmt::format("base.train.data[{}]", i));
  }
  return std::make_unique<UnionDataset>(std::move(parts), names);
}

void Pipeline::make_base() {
  if (base_.tensors) return;
  const auto& spec = recipe_.base;
  if (!spec.model.empty()) {
    base_ = open_tensors("base", spec.model);
    return;
  }
  TaskSpec task;  // the base is trained as a classifier of its data
  train("base", spec.train, json::object(), *base_data_.at(Split::kTrain), *base_data_.at(Split::kVal), task,
        folder().base(), [&] { return new_base(); });
  base_ = open_tensors("base", folder().base());
}

void Pipeline::make_expert(size_t task) {
  auto& state = tasks_[task];
  if (state.expert.tensors) return;
  const auto& spec = recipe_.tasks[task];
  if (!spec.expert.model.empty()) {
    state.expert = open_tensors(spec.name, spec.expert.model);
    return;
  }
  make_base();
  const auto path = folder().expert(spec.name);
  if (!spec.expert.adapter.empty()) {
    fold_adapter(task);
    state.expert = open_tensors(spec.name, path);
    open_adapter(task);
    return;
  }
  json inputs = {{"base", base_.digest}, {"base_file", base_.file}, {"private", recipe_.private_patterns}};
  if (const auto part = part_of_base(task)) inputs["head_of_part"] = *part;
  train(spec.name, spec.expert.train, inputs, dataset(task, Split::kTrain), dataset(task, Split::kVal), spec, path,
        [&] { return new_expert(task); });
  state.expert = open_tensors(spec.name, path);
  state.expert.is_ia3 = trains_ia3(spec.expert.train);
  if (spec.expert.trains_adapter()) open_adapter(task);
}

void Pipeline::make_models() {
  make_base();
  for (size_t i = 0; i < tasks_.size(); ++i)
    if (selection_.task.empty() || selection_.task == recipe_.tasks[i].name) make_expert(i);
}

}  // namespace amalgam
