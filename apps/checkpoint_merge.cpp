#include "apps/checkpoint_merge.h"

#include <fmt/chrono.h>
#include <fmt/ranges.h>

#include <chrono>
#include <cmath>
#include <ctime>
#include <set>

#include "apps/terminal.h"
#include "core/atomic_file.h"
#include "core/device.h"
#include "core/error.h"
#include "core/patterns.h"
#include "core/sharded_safetensors.h"
#include "core/tied_tensors.h"
#include "core/version.h"
#include "solvers/check.h"
#include "solvers/merge_report_json.h"
#include "solvers/streamed_merge.h"

namespace amalgam {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// The methods that need no data, for messages.
std::vector<std::string> streamed_methods() {
  std::vector<std::string> names;
  for (const std::string& name : method_names())
    if (why_not_streamed(*make_method(name, {}, name)).empty()) names.push_back(name);
  return names;
}

std::unique_ptr<MergeMethod> method_without_data(const YAML::Node& entry) {
  const bool named = entry.IsMap() && entry["method"].IsDefined() && entry["method"].IsScalar();
  auto method = make_method(entry, named ? entry["method"].Scalar() : "--method");
  const std::string why = why_not_streamed(*method);
  require_input(why.empty(), "method '{}' needs {}: merge by a recipe (`amalgam merge`), or take one of {}",
                method->name(), why, fmt::join(streamed_methods(), ", "));
  return method;
}

/// Size and time of each file, by its name.
json files_json(const std::vector<fs::path>& files) {
  json result = json::object();
  for (const fs::path& file : files) {
    const auto modified = fs::last_write_time(file).time_since_epoch();
    result[file.filename().string()] = {
        {"size", fs::file_size(file)},
        {"modified", std::chrono::duration_cast<std::chrono::nanoseconds>(modified).count()}};
  }
  return result;
}

/// What two records of inputs differ in, one text each.
std::vector<std::string> differences(const json& before, const json& now) {
  std::vector<std::string> texts;
  for (const json& change : json::diff(before, now)) {
    const json::json_pointer place(change.at("path").get<std::string>());
    const auto at = [&](const json& record) { return record.contains(place) ? record.at(place).dump() : "nothing"; };
    texts.push_back(fmt::format("{}: {} then, {} now", place.to_string().substr(1), at(before), at(now)));
  }
  return texts;
}

/// The tensors of the result: merged ones, those that stand for them, and what the first model keeps.
class ResultTensors final : public TensorSource {
 public:
  ResultTensors(const TensorSource& first, const StreamedMerge& merge, const std::map<std::string, std::string>& tied)
      : first_(first), merge_(merge), tied_(tied) {}

  const std::map<std::string, TensorInfo>& infos() const override { return first_.infos(); }
  at::Tensor get(const std::string& name) const override {
    const std::string& own = merged_name(name);
    return merge_.contains(own) ? merge_.get(own) : first_.get(name);
  }

 private:
  const std::string& merged_name(const std::string& name) const {
    const auto found = tied_.find(name);
    return found == tied_.end() ? name : found->second;
  }

  const TensorSource& first_;
  const StreamedMerge& merge_;
  const std::map<std::string, std::string>& tied_;
};

}  // namespace

CheckpointMerge::CheckpointMerge(CheckpointRequest request) : request_(std::move(request)) {
  method_ = method_without_data(request_.method);
  check_names();
  if (!request_.base.empty()) base_ = std::make_unique<ModelFolder>(request_.base);
  for (const auto& expert : request_.experts) experts_.push_back(std::make_unique<ModelFolder>(expert.path));
  check_tensors();
  check_requirements(*method_, input());
  check_output();
  if (done_) return;
  folder_ = std::make_unique<StagedFolder>(request_.output);
  check_space();
}

void CheckpointMerge::check_names() const {
  std::set<std::string> names;
  for (const auto& expert : request_.experts) {
    require_input(names.insert(expert.name).second,
                  "two experts are called '{}'; give names of their own: --expert NAME=PATH", expert.name);
    require_input(std::isfinite(expert.weight), "the weight of '{}' is no finite number", expert.name);
  }
}

/// Sorts the tensors of all models into merged ones, buffers, tied and private ones.
void CheckpointMerge::check_tensors() {
  std::vector<const TensorSource*> models;
  if (base_) models.push_back(&base_->tensors());
  for (const auto& expert : experts_) models.push_back(&expert->tensors());
  tied_ = tied_tensors(models);
  std::set<std::string> names;
  for (const TensorSource* model : models)
    for (const auto& [name, info] : model->infos()) names.insert(name);
  require_matches("--private", request_.private_patterns, {names.begin(), names.end()});
  for (const std::string& name : names) {
    if (tied_.contains(name) || matches_any(request_.private_patterns, name)) continue;
    const auto info = first().tensors().infos().find(name);
    const bool floating = info == first().tensors().infos().end() || at::isFloatingType(info->second.dtype);
    (floating ? merged_ : buffers_).push_back(name);
  }
  require_input(!merged_.empty(), "nothing is left to merge; name only what belongs to one model under --private");
  check_experts(input());
}

MergeInput CheckpointMerge::input() const {
  MergeInput input;
  input.base = base_ ? &base_->tensors() : nullptr;
  for (size_t m = 0; m < experts_.size(); ++m) {
    ExpertInput& expert = input.experts.emplace_back();
    expert.task = request_.experts[m].name;
    expert.weight = request_.experts[m].weight;
    expert.tensors = &experts_[m]->tensors();
  }
  input.parameters = merged_;
  input.buffers = buffers_;
  input.device = request_.device;
  input.seed = static_cast<uint64_t>(request_.seed);
  return input;
}

/// Everything that the result depends on.
json CheckpointMerge::inputs_json() const {
  json inputs = {{"method", method_->name()},
                 {"seed", request_.seed},
                 {"private", request_.private_patterns},
                 {"shard_bytes", request_.shard_bytes},
                 {"version", AMALGAM_VERSION}};
  for (const auto& option : method_->write_options())
    inputs["options"][option.first.Scalar()] = yaml_text(option.second);
  const auto model = [](const ModelFolder& folder) {
    return json{{"path", fs::absolute(folder.path()).string()}, {"files", files_json(folder.weight_files())}};
  };
  if (base_) inputs["base"] = model(*base_);
  for (size_t m = 0; m < experts_.size(); ++m) {
    json& expert = inputs["experts"].emplace_back(model(*experts_[m]));
    expert["name"] = request_.experts[m].name;
    expert["weight"] = request_.experts[m].weight;
  }
  return inputs;
}

void CheckpointMerge::check_output() {
  const fs::path& output = request_.output;
  if (!fs::exists(output) || (fs::is_directory(output) && fs::is_empty(output))) return;
  const fs::path record = output / ModelFolder::kRecord;
  require_input(fs::is_regular_file(record), "{}: it is there already; give another place, or remove it",
                output.string());
  json before;
  try {
    before = json::parse(read_file(record)).at("inputs");
  } catch (const json::exception& error) {
    throw InputError(fmt::format("{}: it is no record of a merge ({}); give another place, or remove the folder",
                                 record.string(), error.what()));
  }
  const auto found = differences(before, inputs_json());
  require_input(found.empty(), "{}: it holds another merge; give another place, or remove it\n  {}", output.string(),
                fmt::join(found, "\n  "));
  ModelFolder{output};  // whole, or this says what it lacks
  done_ = true;
}

void CheckpointMerge::check_space() const {
  double needed = 0;
  for (const fs::path& file : first().weight_files()) needed += static_cast<double>(fs::file_size(file));
  for (const fs::path& file : first().companions()) needed += static_cast<double>(fs::file_size(first().path() / file));
  const auto free = static_cast<double>(fs::space(folder_->stage()).available);
  require_input(free > needed,
                "{}: the merged model needs {}, and there are {} free; free some space, or choose "
                "another disk",
                request_.output.string(), format_bytes(needed), format_bytes(free));
}

void CheckpointMerge::run(Progress& progress) {
  const auto began = std::chrono::steady_clock::now();
  reset_peak_memory(request_.device);
  const auto folder = std::move(folder_);  // goes away where this fails
  json record = {{"inputs", inputs_json()}, {"torch", AMALGAM_TORCH_VERSION}};
  const MergeInput borrowed = input();
  const StreamedMerge merge(*method_, borrowed, progress);
  for (const fs::path& file : first().companions())
    write_file(folder->stage() / file, read_file(first().path() / file));
  write_safetensors_sharded(folder->stage() / "model.safetensors", ResultTensors(first().tensors(), merge, tied_),
                            {{"format", "pt"}}, static_cast<uint64_t>(request_.shard_bytes));
  progress.end("");
  record["report"] = to_json(merge.report(), {});
  record["tied"] = tied_;
  record["seconds"] = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  record["peak_host_bytes"] = peak_memory(request_.device).host;
  record["device"] = describe(request_.device);
  record["finished"] = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
  write_file(folder->stage() / ModelFolder::kRecord, record.dump(1) + "\n");
  folder->commit();
}

}  // namespace amalgam
