#include "stats/statistics_metadata.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "core/error.h"

namespace amalgam {
namespace {

constexpr const char* kFormat = "amalgam statistics";

std::vector<std::string> kind_words(const std::set<StatisticKind>& kinds) {
  std::vector<std::string> words;
  for (const StatisticKind kind : kinds) words.emplace_back(name_of(kind));
  return words;
}

std::vector<std::pair<int64_t, int64_t>> pairs_of(const std::vector<ExampleRange>& ranges) {
  std::vector<std::pair<int64_t, int64_t>> pairs;
  for (const ExampleRange& range : ranges) pairs.emplace_back(range.begin, range.end);
  return pairs;
}

/// The values of a file's `__metadata__`, each JSON.
class Metadata {
 public:
  explicit Metadata(const TensorFile& file) : values_(file.metadata()) {}

  bool has(const std::string& key) const { return values_.contains(key); }

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

void check_version(const TensorFile& file, const Metadata& metadata) {
  require_input(is_statistics_file(file), "it is no statistics file: give one that `amalgam collect` wrote");
  const auto version = metadata.get<int>("version");
  require_input(version == StatisticsHeader::kVersion,
                "it is of version {}, and this program reads version {}: collect the statistics again", version,
                StatisticsHeader::kVersion);
}

}  // namespace

std::map<std::string, std::string> metadata_of(const StatisticsHeader& header) {
  const auto text = [](const auto& value) { return nlohmann::json(value).dump(); };
  std::map<std::string, std::string> metadata = {{"format", text(kFormat)},
                                                 {"version", text(StatisticsHeader::kVersion)},
                                                 {"task", text(header.task)},
                                                 {"loss", text(header.loss)},
                                                 {"label_mode", text(header.label_mode)},
                                                 {"ranges", text(pairs_of(header.ranges))},
                                                 {"examples", text(header.examples())},
                                                 {"seed", text(header.seed)},
                                                 {"dtype", text(header.dtype)},
                                                 {"products", text(header.products)},
                                                 {"expert_digest", text(header.expert_digest)},
                                                 {"data_digest", text(header.data_digest)},
                                                 {"kinds", text(kind_words(header.kinds))},
                                                 {"layers", to_json(header.layers)},
                                                 {"parameter_shapes", text(header.parameter_shapes)},
                                                 {"unobserved", text(header.unobserved)},
                                                 {"blocks", text(header.blocks)},
                                                 {"sums_digest", text(header.sums_digest)}};
  if (header.kinds.contains(StatisticKind::kGradientGram)) metadata["vector_limit"] = text(header.vector_limit);
  if (header.temperature != 1.0) metadata["temperature"] = text(header.temperature);
  return metadata;
}

StatisticsHeader header_of(const TensorFile& file) {
  const Metadata metadata(file);
  check_version(file, metadata);
  StatisticsHeader header;
  header.task = metadata.get<std::string>("task");
  header.loss = metadata.get<std::string>("loss");
  header.label_mode = metadata.get<std::string>("label_mode");
  if (metadata.has("temperature")) header.temperature = metadata.get<double>("temperature");
  require_input(header.temperature > 0 && std::isfinite(header.temperature), "its temperature is {}, not above 0",
                header.temperature);
  for (const auto& [begin, end] : metadata.get<std::vector<std::pair<int64_t, int64_t>>>("ranges"))
    header.ranges.push_back({begin, end});
  header.seed = metadata.get<uint64_t>("seed");
  header.dtype = metadata.get<std::string>("dtype");
  header.products = metadata.get<std::string>("products");
  header.expert_digest = metadata.get<std::string>("expert_digest");
  header.data_digest = metadata.get<std::string>("data_digest");
  for (const auto& word : metadata.get<std::vector<std::string>>("kinds")) header.kinds.merge(kinds_from_word(word));
  header.layers = layer_table_from_json(metadata.text("layers"));
  header.parameter_shapes = metadata.get<std::map<std::string, std::vector<int64_t>>>("parameter_shapes");
  header.unobserved = metadata.get<std::vector<std::string>>("unobserved");
  header.blocks = metadata.get<std::map<std::string, int64_t>>("blocks");
  header.sums_digest = metadata.get<std::string>("sums_digest");
  if (header.kinds.contains(StatisticKind::kGradientGram)) header.vector_limit = metadata.get<int64_t>("vector_limit");
  require_input(header.vector_limit > 0 && header.vector_limit <= StatisticsHeader::kMostVectorLimit,
                "its vector_limit is {}, not from 1 to {}", header.vector_limit, StatisticsHeader::kMostVectorLimit);
  require_input(header.dtype == "float64" || header.dtype == "float32", "its dtype is '{}', not float64 or float32",
                header.dtype);
  require_input(!header.ranges.empty() && header.ranges == joined_ranges(header.ranges),
                "its ranges of examples, {}, are not sorted and apart", describe(header.ranges));
  const auto examples = metadata.get<int64_t>("examples");
  require_input(examples == header.examples(), "it says to be of {} examples, but its ranges {} are of {}", examples,
                describe(header.ranges), header.examples());
  return header;
}

bool is_statistics_file(const TensorFile& file) {
  const auto format = file.metadata().find("format");
  return format != file.metadata().end() && format->second == nlohmann::json(kFormat).dump();
}

}  // namespace amalgam
