#include "models/original_names.h"

#include <caffe2/serialize/inline_container.h>

#include <nlohmann/json.hpp>
#include <string_view>

#include "core/atomic_file.h"
#include "core/error.h"
#include "core/strict_json.h"

namespace amalgam {
namespace {

/// The record inside the file; empty where there is none.
std::string record_inside(const std::filesystem::path& model) {
  try {
    caffe2::serialize::PyTorchStreamReader reader(model.string());
    if (!reader.hasRecord("extra/names.json")) return {};
    const auto [data, size] = reader.getRecord("extra/names.json");
    return {static_cast<const char*>(data.get()), size};
  } catch (const c10::Error&) {
    return {};  // no archive: whoever opens the model says so
  }
}

std::string record_of(const std::filesystem::path& model) {
  if (std::string inside = record_inside(model); !inside.empty()) return inside;
  const auto beside = std::filesystem::path(model).replace_extension(".names.json");
  return std::filesystem::exists(beside) ? read_file(beside) : std::string();
}

/// Whether `part` is all of `whole`, or its end after a dot.
bool is_end_of(std::string_view part, std::string_view whole) {
  return whole.ends_with(part) && (whole.size() == part.size() || whole[whole.size() - part.size() - 1] == '.');
}

}  // namespace

OriginalNames OriginalNames::of_model(const std::filesystem::path& model) {
  OriginalNames names;
  const std::string text = record_of(model);
  if (text.empty()) return names;
  try {
    const auto record = parse_strict_json(text);
    names.source_ = record.value("source", "");
    for (const auto& [name, original] : record.at("tensors").items())
      names.originals_[name] = {original.at("name").get<std::string>(), original.value("transposed", false)};
    const auto vectors = record.value("vectors", nlohmann::json::object());
    for (const auto& [vector, scaled] : vectors.items())
      names.scales_input_[vector] = scaled.get<std::string>() == "input";
  } catch (const nlohmann::json::exception& error) {
    throw InputError(
        fmt::format("{}: the record of its tensors' names (names.json) is damaged: {}; export the base "
                    "again",
                    model.string(), error.what()));
  }
  return names;
}

std::string OriginalNames::original(const std::string& name) const {
  const auto found = originals_.find(name);
  return found == originals_.end() ? name : found->second.name;
}

std::optional<std::string> OriginalNames::find(const std::string& original,
                                               const std::vector<std::string>& names) const {
  for (const std::string& name : names)
    if (this->original(name) == original) return name;
  std::optional<std::string> only;
  for (const std::string& name : names) {
    if (name == original) return name;
    const std::string known = this->original(name);
    if (!is_end_of(known, original) && !is_end_of(original, known)) continue;
    if (only) return std::nullopt;
    only = name;
  }
  return only;
}

std::optional<bool> OriginalNames::scales_input(const std::string& vector) const {
  const auto found = scales_input_.find(vector);
  return found == scales_input_.end() ? std::nullopt : std::optional(found->second);
}

bool OriginalNames::is_transposed(const std::string& name) const {
  const auto found = originals_.find(name);
  return found != originals_.end() && found->second.transposed;
}

}  // namespace amalgam
