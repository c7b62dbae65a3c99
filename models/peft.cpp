#include "models/peft.h"

#include <fmt/ranges.h>

#include <cmath>
#include <map>
#include <string_view>

#include "core/error.h"
#include "core/low_rank.h"
#include "core/safetensors.h"
#include "models/peft_config.h"

namespace amalgam {
namespace {

constexpr std::string_view kPrefix = "base_model.model.", kWeight = ".weight", kVector = ".ia3_l";
constexpr std::string_view kDown = ".lora_A.weight", kUp = ".lora_B.weight";

std::string without_end(const std::string& name, std::string_view end) {
  return name.substr(0, name.size() - end.size());
}

/// What PEFT calls the module whose weight this is.
std::string module_of(const std::string& weight, const OriginalNames& names) {
  const std::string original = names.original(weight);
  require_input(original.ends_with(kWeight),
                "'{}' (originally '{}') does not end with '.weight', so PEFT has no module for it; leave it out of the "
                "adapter's targets",
                weight, original);
  return without_end(original, kWeight);
}

void write_adapter(const std::filesystem::path& folder, const PeftConfig& config, const NamedTensors& tensors) {
  std::filesystem::create_directories(folder);
  const auto files = peft_files(folder);
  write_peft_config(files[0], config);
  write_safetensors(files[1], tensors, {{"format", "pt"}});
}

/// A tensor of the file, read and named.
class Reader {
 public:
  Reader(const SafetensorsFile& file, const AdaptedModel& model) : file_(file), model_(model) {}

  /// The base's weight of the module that a tensor is of.
  std::string weight_of(const std::string& tensor, std::string_view end) const {
    const std::string module = without_end(tensor.substr(kPrefix.size()), end),
                      original = module + std::string(kWeight);
    const auto weight = model_.names.find(original, model_.parameters);
    require_input(weight.has_value(), "{}: '{}' is of a module '{}' that the base does not have{}", file(), tensor,
                  module, suggestion(original, model_.parameters));
    const TensorInfo& info = model_.infos.at(*weight);
    require_input(info.shape.size() == 2 && c10::isFloatingType(info.dtype) && !model_.names.is_transposed(*weight),
                  "{}: '{}' is of '{}', which is {}{} in the base; adapters are of weights [out, in]", file(), tensor,
                  *weight, describe(info), model_.names.is_transposed(*weight) ? ", stored the other way round," : "");
    return *weight;
  }

  /// @param shape     that it must have
  /// @param like      a parameter of the base, which says the precision
  at::Tensor read(const std::string& tensor, const std::vector<int64_t>& shape, const std::string& like) const {
    const TensorInfo& info = file_.infos().at(tensor);
    const TensorInfo expected{info.dtype, shape};
    require_input(info == expected && c10::isFloatingType(info.dtype),
                  "{}: '{}' is {}, and expected are {} floating "
                  "numbers (by `r` and by '{}', {})",
                  file(), tensor, describe(info), shape, like, describe(model_.infos.at(like)));
    const auto dtype = model_.infos.at(like).dtype == at::kDouble ? at::kDouble : at::kFloat;
    const at::Tensor value = file_.get(tensor).to(dtype);
    require_input(at::isfinite(value).all().item<bool>(), "{}: '{}' holds a value that is not finite", file(), tensor);
    return value;
  }

  [[noreturn]] void refuse(const std::string& tensor, const std::string& expected) const {
    throw InputError(
        fmt::format("{}: '{}' is no tensor of such an adapter; expected are {}", file(), tensor, expected));
  }

  std::string file() const { return file_.path().string(); }
  const AdaptedModel& model() const { return model_; }

 private:
  const SafetensorsFile& file_;
  const AdaptedModel& model_;
};

bool fits(const std::string& tensor, std::string_view end) {
  return tensor.starts_with(kPrefix) && tensor.ends_with(end) && tensor.size() > kPrefix.size() + end.size();
}

NamedTensors read_factors(const SafetensorsFile& file, const Reader& reader, const PeftConfig& config) {
  const auto rank = static_cast<double>(config.rank);
  const double scale = config.alpha / (config.rslora ? std::sqrt(rank) : rank);
  std::map<std::string, LowRank> changes;  // by our weights
  for (const auto& [tensor, info] : file.infos()) {
    const bool is_down = fits(tensor, kDown), is_up = fits(tensor, kUp);
    if (!is_down && !is_up)
      reader.refuse(tensor, "base_model.model.<module>.lora_A.weight and base_model.model.<module>.lora_B.weight");
    const std::string weight = reader.weight_of(tensor, is_down ? kDown : kUp);
    at::Tensor& factor = is_down ? changes[weight].down : changes[weight].up;
    require_input(!factor.defined(), "{}: two tensors are of '{}', the last of them '{}'", reader.file(), weight,
                  tensor);
    const auto& shape = reader.model().infos.at(weight).shape;
    factor = is_down ? reader.read(tensor, {config.rank, shape[1]}, weight)
                     : reader.read(tensor, {shape[0], config.rank}, weight).mul(scale);
  }
  NamedTensors factors;
  for (const auto& [weight, change] : changes) {
    require_input(change.down.defined() && change.up.defined(),
                  "{}: '{}' has a factor {} and no {}; the file is not whole", reader.file(), weight,
                  change.down.defined() ? "A" : "B", change.down.defined() ? "B" : "A");
    factors[down_name(weight)] = change.down;
    factors[up_name(weight)] = change.up;
  }
  return factors;
}

NamedTensors read_vectors(const SafetensorsFile& file, const Reader& reader) {
  NamedTensors vectors;
  for (const auto& [tensor, info] : file.infos()) {
    if (!fits(tensor, kVector)) reader.refuse(tensor, "base_model.model.<module>.ia3_l");
    const std::string weight = reader.weight_of(tensor, kVector);
    const std::string name = without_end(weight, kWeight) + std::string(kVector);
    const auto known = reader.model().infos.find(name);
    require_input(known != reader.model().infos.end(),
                  "{}: '{}' is of '{}', and the base has no '{}' for it; export the base with --ia3", reader.file(),
                  tensor, weight, name);
    const int64_t count = c10::multiply_integers(known->second.shape);
    const bool is_column = info.shape.size() == 2 && info.shape[1] == 1;
    const at::Tensor value =
        reader.read(tensor, is_column ? std::vector{count, int64_t{1}} : std::vector{int64_t{1}, count}, name);
    const auto of_input = scales_input(name, reader.model());
    require_input(count == 1 || !of_input || *of_input != is_column,
                  "{}: '{}' is {}, which scales the {} of its module, and '{}' of the base scales the {}; train the "
                  "adapter with the module {} `feedforward_modules`",
                  reader.file(), tensor, describe(info), is_column ? "output" : "input", name,
                  is_column ? "input" : "output", is_column ? "among" : "not among");
    vectors[name] = value.reshape(known->second.shape).to(known->second.dtype);
  }
  return vectors;
}

}  // namespace

std::vector<std::filesystem::path> peft_files(const std::filesystem::path& folder) {
  return {folder / "adapter_config.json", folder / "adapter_model.safetensors"};
}

void write_lora(const std::filesystem::path& folder, const NamedTensors& factors, const LoraScaling& scaling,
                const OriginalNames& names, const std::string& base) {
  PeftConfig config;
  config.base_model = names.source().empty() ? base : names.source();
  config.rank = scaling.rank;
  config.alpha = scaling.alpha;
  config.rslora = scaling.rslora;
  NamedTensors written;
  for (const std::string& weight : adapted_weights(MemoryTensors(factors))) {
    const std::string& module = config.target_modules.emplace_back(module_of(weight, names));
    written[std::string(kPrefix) + module + std::string(kDown)] = factors.at(down_name(weight));
    written[std::string(kPrefix) + module + std::string(kUp)] = factors.at(up_name(weight));
  }
  write_adapter(folder, config, written);
}

bool is_ia3_vector(const std::string& parameter) { return parameter.ends_with(kVector); }

std::optional<bool> scales_input(const std::string& vector, const AdaptedModel& model) {
  if (const auto known = model.names.scales_input(vector)) return known;
  const auto weight = model.infos.find(without_end(vector, kVector) + std::string(kWeight));
  if (weight == model.infos.end() || weight->second.shape.size() != 2) return std::nullopt;
  const int64_t out = weight->second.shape[0], in = weight->second.shape[1];
  const int64_t length = c10::multiply_integers(model.infos.at(vector).shape);
  return out != in && (length == out || length == in) ? std::optional(length == in) : std::nullopt;
}

void write_ia3(const std::filesystem::path& folder, const NamedTensors& vectors, const AdaptedModel& model,
               const std::string& base) {
  PeftConfig config;
  config.type = "IA3";
  config.base_model = model.names.source().empty() ? base : model.names.source();
  NamedTensors written;
  for (const auto& [name, vector] : vectors) {
    const auto of_input = scales_input(name, model);
    require_input(of_input.has_value(),
                  "'{}': whether it scales the input or the output of its module cannot be told; export the base with "
                  "`amalgam_export encoder --ia3`",
                  name);
    const std::string& module =
        config.target_modules.emplace_back(module_of(without_end(name, kVector) + std::string(kWeight), model.names));
    if (*of_input) config.feedforward_modules.push_back(module);
    const std::vector<int64_t> shape = *of_input ? std::vector<int64_t>{1, -1} : std::vector<int64_t>{-1, 1};
    written[std::string(kPrefix) + module + std::string(kVector)] = vector.reshape(shape).contiguous();
  }
  write_adapter(folder, config, written);
}

PeftAdapter read_peft(const std::filesystem::path& folder, const AdaptedModel& model) {
  const auto files = peft_files(folder);
  for (const auto& file : files)
    require_input(std::filesystem::is_regular_file(file),
                  "{}: no such file; expected is a folder as PEFT's save_pretrained writes it", file.string());
  const PeftConfig config = read_peft_config(files[0]);
  const SafetensorsFile file(files[1]);
  require_input(!file.infos().empty(), "{}: the file holds no tensor", files[1].string());
  const Reader reader(file, model);
  PeftAdapter adapter;
  (config.type == "IA3" ? adapter.vectors : adapter.factors) =
      config.type == "IA3" ? read_vectors(file, reader) : read_factors(file, reader, config);
  return adapter;
}

NamedTensors with_adapter(const TensorSource& base, const PeftAdapter& adapter) {
  NamedTensors changed = adapter.vectors;
  const MemoryTensors factors(adapter.factors);
  for (const std::string& weight : adapted_weights(factors)) {
    const LowRank change = read_low_rank(factors, weight, {});
    const at::Tensor stored = base.get(weight);
    changed[weight] = at::addmm(stored.to(change.up.scalar_type()), change.up, change.down).to(stored.scalar_type());
  }
  return changed;
}

}  // namespace amalgam
