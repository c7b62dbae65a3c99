#include "models/peft_config.h"

#include <fmt/ranges.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "core/atomic_file.h"
#include "core/error.h"
#include "core/strict_json.h"

namespace amalgam {
namespace {

using nlohmann::json;

constexpr int64_t kMostRank = 1'000'000;

/// Read below.
const std::set<std::string> kRead = {
    "peft_type", "base_model_name_or_path", "target_modules", "r", "lora_alpha", "use_rslora", "feedforward_modules",
    "bias",      "init_lora_weights"};
/// Say how the adapter was trained or is loaded: its tensors mean the same whatever they are.
const std::set<std::string> kWithoutInfluence = {
    "auto_mapping",      "revision",           "task_type",           "inference_mode",  "lora_dropout",
    "init_ia3_weights",  "layers_pattern",     "layers_to_transform", "exclude_modules", "megatron_config",
    "megatron_core",     "loftq_config",       "eva_config",          "runtime_config",  "peft_version",
    "qalora_group_size", "ensure_weight_tying"};
/// With these starts, and with none, the base keeps its weights; pissa, olora and others change it.
const std::set<std::string> kPlainStarts = {"gaussian", "eva", "orthogonal"};

bool is_off(const json& value) {
  return value.is_null() || value == false || ((value.is_structured() || value.is_string()) && value.empty());
}

void check_keys(const json& config, const std::string& where) {
  for (const auto& [key, value] : config.items()) {
    if (kRead.contains(key) || kWithoutInfluence.contains(key)) continue;
    require_input(is_off(value),
                  "{}: `{}` is {}, which this reader cannot follow; save an adapter without it (in PEFT: "
                  "merge_and_unload() and export the whole model as an expert)",
                  where, key, value.dump());
  }
  const json bias = config.value("bias", json("none"));
  require_input(bias == "none", "{}: `bias` is {}, and only adapters that leave biases alone (\"none\") are read",
                where, bias.dump());
  const json start = config.value("init_lora_weights", json(true));
  require_input(
      start.is_null() || start.is_boolean() || (start.is_string() && kPlainStarts.contains(start)),
      "{}: `init_lora_weights` is {}: such an adapter is no change of the base but of a base that PEFT changed, "
      "too; save it converted to a plain LoRA (path_initial_model_for_weight_conversion)",
      where, start.dump());
}

template <class T>
T field(const json& config, const std::string& key, const std::string& where) {
  try {
    return config.at(key).get<T>();
  } catch (const json::exception&) {
    throw InputError(fmt::format("{}: `{}` is {}, which is not what PEFT writes there", where, key,
                                 config.contains(key) ? config.at(key).dump() : "missing"));
  }
}

std::vector<std::string> words(const json& config, const std::string& key, const std::string& where) {
  // A single word is a pattern of PEFT's; what it named is told by the tensors.
  if (!config.contains(key) || config.at(key).is_null() || config.at(key).is_string()) return {};
  return field<std::vector<std::string>>(config, key, where);
}

json parse(const std::filesystem::path& path) {
  try {
    json config = parse_strict_json(read_file(path));
    require_input(config.is_object(), "{}: expected is a JSON object", path.string());
    return config;
  } catch (const json::exception& error) {
    throw InputError(fmt::format("{}: no JSON: {}", path.string(), error.what()));
  }
}

}  // namespace

void write_peft_config(const std::filesystem::path& path, const PeftConfig& config) {
  json written = {{"peft_type", config.type},
                  {"base_model_name_or_path", config.base_model},
                  {"target_modules", config.target_modules},
                  {"inference_mode", true},
                  {"task_type", nullptr},
                  {"modules_to_save", nullptr},
                  {"fan_in_fan_out", false}};
  if (config.type == "IA3") {
    written["feedforward_modules"] = config.feedforward_modules;
  } else {
    const bool whole = config.alpha == std::floor(config.alpha) && config.alpha < 1e9;
    written["r"] = config.rank;
    written["lora_alpha"] = whole ? json(static_cast<int64_t>(config.alpha)) : json(config.alpha);
    written["use_rslora"] = config.rslora;
    written.update({{"bias", "none"},
                    {"lora_dropout", 0.0},
                    {"init_lora_weights", true},
                    {"use_dora", false},
                    {"rank_pattern", json::object()},
                    {"alpha_pattern", json::object()}});
  }
  write_file(path, written.dump(2) + "\n");
}

PeftConfig read_peft_config(const std::filesystem::path& path) {
  const std::string where = path.string();
  const json read = parse(path);
  PeftConfig config;
  config.type = field<std::string>(read, "peft_type", where);
  require_input(config.type == "LORA" || config.type == "IA3",
                "{}: an adapter of the type {} cannot be read; LORA and IA3 can", where, config.type);
  check_keys(read, where);
  if (read.contains("base_model_name_or_path") && read["base_model_name_or_path"].is_string())
    config.base_model = read["base_model_name_or_path"];
  config.target_modules = words(read, "target_modules", where);
  config.feedforward_modules = words(read, "feedforward_modules", where);
  if (config.type == "IA3") return config;
  config.rank = field<int64_t>(read, "r", where);
  config.alpha = field<double>(read, "lora_alpha", where);
  if (read.contains("use_rslora") && !read["use_rslora"].is_null())
    config.rslora = field<bool>(read, "use_rslora", where);
  require_input(config.rank >= 1 && config.rank <= kMostRank, "{}: `r` is {}, and a rank is 1 … {}", where, config.rank,
                kMostRank);
  require_input(std::isfinite(config.alpha), "{}: `lora_alpha` is not finite", where);
  return config;
}

}  // namespace amalgam
