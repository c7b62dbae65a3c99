#include <zlib.h>

#include <cstring>
#include <stdexcept>

#include "core/atomic_file.h"
#include "core/safetensors.h"
#include "fuzz/entries.h"
#include "stats/statistics.h"
#include "stats/sum_table.h"
#include "temporary_folder.h"

namespace amalgam::fuzz {
namespace {

Layer layer(const std::string& name, LayerKind kind, int64_t out, int64_t in) {
  Layer made;
  made.name = name;
  made.kind = kind;
  made.weight = name + ".weight";
  made.bias = name + ".bias";
  made.row_end = made.out = out;
  made.in = in;
  made.input_of = name;
  return made;
}

/// One layer of each kind, and what of statistics belongs to them.
StatisticsHeader some_header(std::set<StatisticKind> kinds) {
  StatisticsHeader header;
  header.task = "left";
  header.label_mode = "true";
  header.ranges = {{0, 3}};
  header.dtype = "float32";
  header.expert_digest = header.data_digest = std::string(64, 'a');
  header.kinds = std::move(kinds);
  Layer convolution = layer("conv", LayerKind::kConvolution, 4, 2);
  convolution.groups = 2;
  convolution.kernel = {1, 2};
  convolution.stride = convolution.dilation = {1, 1};
  convolution.padding = {0, 0};
  Layer embedding = layer("words", LayerKind::kEmbedding, 2, 5);
  embedding.bias.clear();
  Layer position = layer("position", LayerKind::kBias, 6, 0);
  position.weight.clear();
  header.layers.layers = {embedding, position, layer("fc", LayerKind::kLinear, 2, 3), convolution,
                          layer("norm", LayerKind::kLayerNorm, 3, 1)};
  header.layers.aliases = {{"output.weight", "words.weight"}};
  header.parameter_shapes = {
      {"words.weight", {5, 2}},      {"position.bias", {2, 3}}, {"fc.weight", {2, 3}}, {"fc.bias", {2}},
      {"conv.weight", {4, 1, 1, 2}}, {"conv.bias", {4}},        {"norm.weight", {3}},  {"norm.bias", {3}}};
  return header;
}

std::string statistics_header(std::set<StatisticKind> kinds) {
  const auto header = some_header(std::move(kinds));
  NamedTensors sums;
  for (const auto& [name, info] : sum_table(header)) sums[name] = at::ones(info.tensor.shape, info.tensor.dtype);
  const TemporaryFolder folder;
  Statistics(header, std::make_shared<MemoryTensors>(std::move(sums))).save(folder / "a.safetensors");
  const auto bytes = read_file(folder / "a.safetensors");
  uint64_t size = 0;
  std::memcpy(&size, bytes.data(), sizeof size);
  return bytes.substr(sizeof size, size);
}

std::string safetensors_file(const NamedTensors& tensors, const std::map<std::string, std::string>& metadata) {
  const TemporaryFolder folder;
  write_safetensors(folder / "a", tensors, metadata);
  return read_file(folder / "a");
}

std::string gzipped(const std::string& bytes) {
  const TemporaryFolder folder;
  const gzFile file = ::gzopen((folder / "a").c_str(), "wb");
  const bool written = file != nullptr && ::gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size())) > 0;
  if (!written || ::gzclose(file) != Z_OK) throw std::runtime_error("cannot write gzip data");
  return read_file(folder / "a");
}

}  // namespace

std::multimap<std::string, std::string> seeds() {
  using namespace std::string_literals;
  const auto labels = "\0\0\x08\x01\0\0\0\x03\0\1\2"s;
  const auto images = "\0\0\x08\x03\0\0\0\x02\0\0\0\1\0\0\0\2\0\1\2\3"s;
  return {
      {"safetensors", safetensors_file({}, {})},
      {"safetensors", safetensors_file({{"a", at::ones({2, 3})}, {"b", at::zeros({}, at::kLong)}}, {{"key", "value"}})},
      {"safetensors", safetensors_file({{"a", at::ones({3}, at::kBool)}, {"b", at::ones({2}, at::kHalf)}}, {})},
      {"task_parts", safetensors_file({{"base/weight", at::zeros({2, 3})},
                                       {"left/weight.mask", at::full({1}, 37, at::kByte)},
                                       {"left/bias", at::ones({2})}},
                                      {})},
      {"task_parts",
       safetensors_file({{"left/weight.lora_A", at::ones({1, 3})}, {"left/weight.lora_B", at::ones({2, 1})}}, {})},
      {"index", R"({"weight_map": {"a": "1.safetensors", "b": "1.safetensors"}})"},
      {"index", R"({"metadata": {"total_size": 36, "key": "value"},
                    "weight_map": {"a": "1.safetensors", "b": "1.safetensors", "c": "2.safetensors"}})"},
      {"index", R"({"metadata": {"shard_sha256": {"2.safetensors": ")" + std::string(64, 'a') +
                    R"("}}, "weight_map": {"c": "2.safetensors"}})"},
      {"statistics", statistics_header({StatisticKind::kInputGram})},
      {"statistics", statistics_header({StatisticKind::kSquaredGradient, StatisticKind::kMoments})},
      {"statistics", statistics_header({StatisticKind::kInputGram, StatisticKind::kOutputGram,
                                        StatisticKind::kSquaredGradient, StatisticKind::kMoments})},
      {"idx", labels},
      {"idx", images},
      {"idx", gzipped(labels)},
      {"idx", gzipped(images)},
      {"options", "{}"},
      {"options",
       "real: 1e-3\ninteger: -4\nflag: true\ntext: a b\nchoice: two\nreals: [0, .5, 1e9]\nintegers: [-1, 2]\n"},
      {"options",
       "section: {real: 0.25, texts: [b, 'c d']}\nsections:\n  - {}\n  - real: 1\nnode: {any: [thing, 1]}\n"},
  };
}

}  // namespace amalgam::fuzz
