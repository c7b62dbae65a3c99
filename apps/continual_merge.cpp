#include "apps/continual_merge.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/digest.h"
#include "core/error.h"
#include "core/patterns.h"
#include "core/version.h"
#include "models/artefact.h"
#include "solvers/check.h"

namespace amalgam {
namespace {

using nlohmann::json;

NamedTensors tensors_of_file(const std::filesystem::path& path) { return tensors_of(*open_model(path, at::kCPU)); }

/// In the dtype that it is stored in.
at::Tensor stored(const std::string& name, const at::Tensor& value, at::ScalarType dtype) {
  const at::Tensor result = value.to(dtype).cpu();
  require_input(at::isfinite(result).all().item<bool>(), "'{}' comes out with a value that is not finite in {}", name,
                c10::toString(dtype));
  return result;
}

}  // namespace

std::filesystem::path continual_record(const std::filesystem::path& model) {
  auto record = model;
  return record.replace_extension(".onto.json");
}

ContinualMerge::ContinualMerge(ContinualRequest request)
    : request_(std::move(request)),
      base_(tensors_of_file(request_.base)),
      model_(open_model(request_.merged, at::kCPU)),
      merged_(tensors_of(*model_)),
      expert_(tensors_of_file(request_.expert)),
      base_digest_(digest_of(base_)),
      merged_digest_(digest_of(merged_)),
      expert_digest_(digest_of(expert_)) {
  require_input(request_.output.extension() == ".pt", "--output {}: give a name that ends in .pt",
                request_.output.string());
  require_input(!std::filesystem::exists(request_.output), "--output {}: there is such a file; give another name",
                request_.output.string());
  std::vector<std::string> names = model_->parameter_names();
  for (const auto& [name, buffer] : model_->buffers()) names.push_back(name);
  require_matches("--private", request_.private_patterns, names);
  const auto is_private = [&](const std::string& name) { return matches_any(request_.private_patterns, name); };
  for (const auto& name : model_->parameter_names())
    if (!is_private(name) && at::isFloatingType(merged_.infos().at(name).dtype)) parameters_.push_back(name);
  for (const auto& [name, buffer] : model_->buffers())
    if (!is_private(name)) buffers_.push_back(name);
  require_input(!parameters_.empty(), "--private: nothing is left to merge");
  check_same_tensors();
  read_record();
  require_input(std::ranges::count(experts_, expert_digest_) == 0,
                "{}: this expert ({}) is in {} already, and would count twice; give another one",
                request_.expert.string(), expert_digest_.substr(0, 12), request_.merged.string());
}

void ContinualMerge::check_same_tensors() const {
  MergeInput input;
  input.base = &base_;
  input.experts = {{request_.merged.string(), 1.0, &merged_, nullptr},
                   {request_.expert.string(), 1.0, &expert_, nullptr}};
  input.parameters = parameters_;
  input.buffers = buffers_;
  check_experts(input);
}

void ContinualMerge::read_record() {
  const auto path = continual_record(request_.merged);
  if (!std::filesystem::exists(path)) {
    experts_ = {merged_digest_};
    return;
  }
  try {
    const json record = json::parse(read_file(path));
    const auto merged = record.at("merged").get<std::string>(), base = record.at("base").get<std::string>();
    require_input(
        merged == merged_digest_,
        "{}: this is the record of another model ({}) than {} ({}); put the right one in its place, or remove it to "
        "take the model for a first expert",
        path.string(), merged.substr(0, 12), request_.merged.string(), merged_digest_.substr(0, 12));
    require_input(base == base_digest_, "{}: the model was merged from another base ({}) than {} ({})", path.string(),
                  base.substr(0, 12), request_.base.string(), base_digest_.substr(0, 12));
    state_ = continual_state_from_json(record.at("state").dump());
    record.at("experts").get_to(experts_);
  } catch (const json::exception& error) {
    throw InputError(fmt::format("{}: no record of a merged model: {}", path.string(), error.what()));
  }
}

/// ‖θ − θ0‖ over the parameters.
double ContinualMerge::distance_of_merged(const Checkpoint& checkpoint) const {
  double square = 0;
  for (const auto& name : parameters_) {
    checkpoint();
    square += (merged_.get(name).to(at::kDouble) - base_.get(name).to(at::kDouble)).square().sum().item<double>();
  }
  return std::sqrt(square);
}

NamedTensors ContinualMerge::merged_buffers() const {
  NamedTensors values;
  const auto count = static_cast<double>(state_.experts);
  for (const auto& name : buffers_) {
    const at::Tensor kept = merged_.get(name);
    if (!kept.is_floating_point()) continue;
    const at::Tensor mean = (kept.to(at::kDouble) * count + expert_.get(name).to(at::kDouble)) / (count + 1);
    values[name] = stored(name, mean, kept.scalar_type());
  }
  return values;
}

ContinualState ContinualMerge::run(Progress& progress) {
  const auto steps = static_cast<int64_t>(parameters_.size()) * (state_.experts == 0 ? 3 : 2);
  int64_t done = 0;
  const Checkpoint checkpoint = [&] { progress.update(done++); };
  progress.begin("merge onto", steps);
  if (state_.experts == 0) state_ = {1.0, distance_of_merged(checkpoint), 1};
  NamedTensors values = merged_buffers();
  const auto next =
      merge_onto(base_, merged_, state_, {request_.expert.string(), request_.weight, &expert_, nullptr}, parameters_,
                 request_.share, request_.device, checkpoint, [&](const std::string& name, const at::Tensor& value) {
                   values[name] = stored(name, value, merged_.infos().at(name).dtype);
                 });
  progress.end();
  save_merged(request_.output, request_.merged, values);
  experts_.push_back(expert_digest_);
  const json record = {{"state", json::parse(to_json(next))},
                       {"base", base_digest_},
                       {"merged", digest_of(MemoryTensors(tensors_of_file(request_.output)))},
                       {"experts", experts_},
                       {"weight", request_.weight},
                       {"share", request_.share},
                       {"private", request_.private_patterns},
                       {"version", AMALGAM_VERSION}};
  write_file(continual_record(request_.output), record.dump(1) + "\n");
  return next;
}

}  // namespace amalgam
