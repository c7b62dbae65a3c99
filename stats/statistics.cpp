#include "stats/statistics.h"

#include <fmt/ranges.h>

#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/error.h"
#include "core/safetensors.h"
#include "stats/rows.h"
#include "stats/sum_table.h"

namespace amalgam {
namespace {

// Note [Statistics file]
// A statistics file is a safetensors file of sums over examples, so that files of disjoint ranges of examples add up to
// the file of all of them. Nothing in it is divided, damped or normalised: methods do that when they read.
//
// - `__metadata__` is the StatisticsHeader: a key a field, each value JSON, and "format" and "version" beside them.
// - A layer's input Gram matrix stands at the first layer that is fed the same tensor and makes the same rows of it
//   (`input_gram_owner`); query, key and value share one. It has no bias component: a layer with a bias gets it from
//   `input_sum` and `rows` when it is read, so that layers with and without a bias can share, too.
// - `rows` counts at each layer of Gram matrices or moments; it is the same for layers that share a Gram matrix.
// - A parameter that the header calls unobserved may lack its sums; every other sum of the header's kinds must be
// there,
//   and no other.

constexpr const char* kFormat = "amalgam statistics";
constexpr std::array kKindNames = {"input_gram", "output_gram", "squared_gradient", "moments"};
const std::string kKronecker = "kronecker";

std::vector<std::string> kind_words(const std::set<StatisticKind>& kinds) {
  std::vector<std::string> words;
  for (const StatisticKind kind : kinds) words.emplace_back(name_of(kind));
  return words;
}

std::map<std::string, std::string> metadata_of(const StatisticsHeader& header) {
  const auto text = [](const auto& value) { return nlohmann::json(value).dump(); };
  return {{"format", text(kFormat)},
          {"version", text(StatisticsHeader::kVersion)},
          {"task", text(header.task)},
          {"label_mode", text(header.label_mode)},
          {"first_example", text(header.first_example)},
          {"examples", text(header.examples)},
          {"seed", text(header.seed)},
          {"dtype", text(header.dtype)},
          {"expert_digest", text(header.expert_digest)},
          {"data_digest", text(header.data_digest)},
          {"kinds", text(kind_words(header.kinds))},
          {"layers", to_json(header.layers)},
          {"parameter_shapes", text(header.parameter_shapes)},
          {"unobserved", text(header.unobserved)}};
}

// The values of a file's `__metadata__`, each JSON.
class Metadata {
 public:
  explicit Metadata(const SafetensorsFile& file) : values_(file.metadata()) {}

  const std::string& text(const std::string& key) const {
    const auto found = values_.find(key);
    require_input(found != values_.end(), "its metadata lacks '{}'", key);
    return found->second;
  }

  template <class T>
  T get(const std::string& key) const {
    try {
      return nlohmann::json::parse(text(key)).get<T>();
    } catch (const nlohmann::json::exception& error) {
      throw InputError(fmt::format("its metadata '{}' cannot be read: {}", key, error.what()));
    }
  }

 private:
  const std::map<std::string, std::string>& values_;
};

StatisticsHeader header_of(const Metadata& metadata) {
  StatisticsHeader header;
  header.task = metadata.get<std::string>("task");
  header.label_mode = metadata.get<std::string>("label_mode");
  header.first_example = metadata.get<int64_t>("first_example");
  header.examples = metadata.get<int64_t>("examples");
  header.seed = metadata.get<uint64_t>("seed");
  header.dtype = metadata.get<std::string>("dtype");
  header.expert_digest = metadata.get<std::string>("expert_digest");
  header.data_digest = metadata.get<std::string>("data_digest");
  for (const auto& word : metadata.get<std::vector<std::string>>("kinds")) header.kinds.merge(kinds_from_word(word));
  header.layers = layer_table_from_json(metadata.text("layers"));
  header.parameter_shapes = metadata.get<std::map<std::string, std::vector<int64_t>>>("parameter_shapes");
  header.unobserved = metadata.get<std::vector<std::string>>("unobserved");
  require_input(header.dtype == "float64" || header.dtype == "float32", "its dtype is '{}', not float64 or float32",
                header.dtype);
  require_input(header.examples > 0 && header.first_example >= 0, "it covers the examples [{}, {} + {})",
                header.first_example, header.first_example, header.examples);
  return header;
}

void check_version(const SafetensorsFile& file, const Metadata& metadata) {
  require_input(is_statistics_file(file), "it is no statistics file: give one that `amalgam collect` wrote");
  const auto version = metadata.get<int>("version");
  require_input(version == StatisticsHeader::kVersion,
                "it is of version {}, and this program reads version {}: collect the statistics again", version,
                StatisticsHeader::kVersion);
}

void check_sums(const StatisticsHeader& header, const TensorSource& sums) {
  std::set<std::string> unobserved;
  for (const std::string& entry : header.unobserved) unobserved.insert(entry.substr(0, entry.find(": ")));
  const auto table = sum_table(header);
  for (const auto& [name, expected] : table) {
    const auto found = sums.infos().find(name);
    if (found == sums.infos().end()) {
      require_input(unobserved.contains(expected.parameter),
                    "it lacks '{}', which its layer table and kinds ask for: collect the statistics again", name);
      continue;
    }
    require_input(found->second == expected.tensor, "'{}' is {}, but its layer table asks for {}", name,
                  describe(found->second), describe(expected.tensor));
  }
  for (const auto& [name, info] : sums.infos())
    require_input(table.contains(name), "it holds '{}', which its layer table and kinds do not know", name);
}

}  // namespace

const char* name_of(StatisticKind kind) { return kKindNames.at(static_cast<size_t>(kind)); }

std::set<StatisticKind> kinds_from_word(const std::string& word) {
  if (word == kKronecker) return {StatisticKind::kInputGram, StatisticKind::kOutputGram};
  for (size_t i = 0; i < kKindNames.size(); ++i)
    if (word == kKindNames[i]) return {static_cast<StatisticKind>(i)};
  std::vector<std::string> known(kKindNames.begin(), kKindNames.end());
  known.push_back(kKronecker);
  throw InputError(fmt::format("there is no kind of statistics '{}'{}", word, suggestion(word, known)));
}

Statistics::Statistics(StatisticsHeader header, std::shared_ptr<const TensorSource> sums)
    : header_(std::move(header)), sums_(std::move(sums)) {}

Statistics Statistics::load(const std::filesystem::path& path) {
  auto file = std::make_shared<const SafetensorsFile>(path);
  try {
    const Metadata metadata(*file);
    check_version(*file, metadata);
    StatisticsHeader header = header_of(metadata);
    check_sums(header, *file);
    return {std::move(header), std::move(file)};
  } catch (const InputError& error) {
    throw InputError(fmt::format("statistics file '{}': {}", path.string(), error.what()));
  }
}

void Statistics::save(const std::filesystem::path& path) const {
  NamedTensors tensors;
  for (const auto& [name, info] : sums_->infos()) tensors[name] = sums_->get(name);
  write_safetensors(path, tensors, metadata_of(header_));
}

bool Statistics::has_input_gram(const Layer& layer) const {
  return has_rows(layer) && sums_->contains(input_gram_owner(header_.layers, layer) + "/input_gram");
}

bool Statistics::has_output_gram(const Layer& layer) const {
  return has_rows(layer) && sums_->contains(layer.name + "/output_gram");
}

bool Statistics::has_squared_gradient(const std::string& parameter) const {
  return sums_->contains(parameter + "/squared_gradient");
}

int64_t Statistics::rows(const Layer& layer) const { return sums_->get(layer.name + "/rows").item<int64_t>(); }

at::Tensor Statistics::input_gram(const Layer& layer) const {
  const std::string owner = input_gram_owner(header_.layers, layer);
  const int64_t groups = layer.groups, in = layer.in;
  const auto count = sums_->get(owner + "/rows").item<int64_t>();
  require_input(count > 0, "statistics of task '{}': no row was counted at layer '{}'", header_.task, owner);
  const at::Tensor gram = sums_->get(owner + "/input_gram").to(at::kDouble).view({groups, in, in});
  if (layer.bias.empty()) return gram / count;
  const at::Tensor sum = sums_->get(owner + "/input_sum").to(at::kDouble).view({groups, in});
  at::Tensor with_bias = at::empty({groups, in + 1, in + 1}, gram.options());
  with_bias.narrow(1, 0, in).narrow(2, 0, in).copy_(gram);
  with_bias.select(1, in).narrow(1, 0, in).copy_(sum);
  with_bias.select(2, in).narrow(1, 0, in).copy_(sum);
  with_bias.select(1, in).select(1, in).fill_(count);
  return with_bias.div_(count);
}

at::Tensor Statistics::output_gram(const Layer& layer) const {
  const int64_t units = layer.out / layer.groups;
  return sums_->get(layer.name + "/output_gram").to(at::kDouble).view({layer.groups, units, units}) / header_.examples;
}

at::Tensor Statistics::squared_gradient(const std::string& parameter) const {
  return sums_->get(parameter + "/squared_gradient").to(at::kDouble) / header_.examples;
}

bool is_statistics_file(const SafetensorsFile& file) {
  const auto format = file.metadata().find("format");
  return format != file.metadata().end() && format->second == nlohmann::json(kFormat).dump();
}

}  // namespace amalgam
