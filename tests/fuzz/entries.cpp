#include "fuzz/entries.h"

#include <nlohmann/json.hpp>
#include <stdexcept>

#include "core/atomic_file.h"
#include "core/options.h"
#include "core/sharded_safetensors.h"
#include "core/task_parts.h"
#include "datasets/idx.h"
#include "fuzz/files.h"
#include "stats/rows.h"
#include "stats/statistics.h"
#include "temporary_folder.h"

namespace amalgam::fuzz {
namespace {

void require(bool holds, const char* what) {
  if (!holds) throw std::logic_error(what);
}

/// Reads every byte of every tensor, so that a view past the file's end would be seen.
void read_all(const TensorSource& source) {
  for (const auto& [name, info] : source.infos()) {
    const at::Tensor tensor = source.get(name);
    require(tensor.sizes() == info.shape && tensor.scalar_type() == info.dtype, "a tensor is not what was announced");
    volatile unsigned char sum = 0;
    const auto* bytes = static_cast<const unsigned char*>(tensor.const_data_ptr());
    for (size_t i = 0; i < tensor.nbytes(); ++i) sum = static_cast<unsigned char>(sum + bytes[i]);
  }
}

bool safetensors(std::string_view bytes) {
  const MemoryFile file(bytes);
  return accepts([&] { read_all(SafetensorsFile(file.path())); });
}

bool task_parts(std::string_view bytes) {
  static const MemoryTensors shared({{"weight", at::ones({2, 3})}, {"bias", at::ones({2})}});
  const MemoryFile file(bytes);
  return accepts([&] {
    const SafetensorsFile parts(file.path());
    check_parts(shared, parts, "the parts");
    for (const auto& [name, info] : shared.infos()) {
      const at::Tensor own = with_part(shared, parts, "left", name);
      require(own.sizes() == info.shape && own.scalar_type() == info.dtype, "a task's tensor is not as the shared one");
    }
  });
}

bool index(std::string_view bytes) {
  static const TemporaryFolder folder;
  static const bool made = [] {
    write_safetensors(folder / "1.safetensors", NamedTensors{{"a", at::ones({2})}, {"b", at::ones({3})}});
    write_safetensors(folder / "2.safetensors", NamedTensors{{"c", at::ones({4})}});
    return true;
  }();
  require(made, "the shards are there");
  std::filesystem::remove(folder / "x.safetensors.index.json");
  const MemoryFile file(bytes);
  std::filesystem::create_symlink(file.path(), folder / "x.safetensors.index.json");
  return accepts([&] {
    const auto tensors = open_safetensors(folder / "x.safetensors.index.json");
    for (const auto& [name, shard] : dynamic_cast<const ShardedSafetensors&>(*tensors).shards())
      require(name == "1.safetensors" || name == "2.safetensors", "a file that is no shard was opened");
    read_all(*tensors);
  });
}

/// The data that a header asks for, up to a mebibyte: the bytes 0, 1, 0, 0, …, so that counts are not all zero.
std::string data_for(std::string_view header) {
  constexpr uint64_t kMost = 1 << 20;
  uint64_t size = 0;
  const auto json = nlohmann::json::parse(header, nullptr, /*allow_exceptions=*/false);
  if (json.is_object())
    for (const auto& [name, entry] : json.items()) {
      if (!entry.is_object() || !entry.contains("data_offsets") || !entry["data_offsets"].is_array()) continue;
      for (const auto& offset : entry["data_offsets"])
        if (offset.is_number_unsigned()) size = std::max(size, offset.get<uint64_t>());
    }
  std::string data(std::min(size, kMost), '\0');
  for (size_t at = 1; at < data.size(); at += 8) data[at] = '\1';
  return data;
}

/// Everything that a method may ask of statistics.
void read_statistics(const Statistics& statistics) {
  read_all(statistics.sums());
  for (const Layer& layer : statistics.header().layers.layers) {
    if (statistics.has_input_gram(layer)) accepts([&] { statistics.input_gram(layer); });  // where no row was counted
    if (statistics.has_output_gram(layer)) statistics.output_gram(layer);
    if (statistics.sums().contains(layer.name + "/rows")) statistics.rows(layer);
    for (const std::string& parameter : {layer.weight, layer.bias}) {
      if (statistics.has_squared_gradient(parameter)) statistics.squared_gradient(parameter);
      if (statistics.has_gradient_gram(parameter)) statistics.gradient_gram(parameter);
    }
  }
}

bool statistics(std::string_view header) {
  const MemoryFile file(with_length(header) + data_for(header));
  return accepts([&] { read_statistics(Statistics::load(file.path())); });
}

bool idx(std::string_view bytes) {
  const MemoryFile file(bytes);
  bool accepted = false;
  for (const size_t axes : {size_t{1}, size_t{3}})
    accepted |= accepts([&] {
      const auto values = read_idx(file.path(), axes);
      require(check_idx(file.path(), axes) == values.sizes(), "the check and the reading disagree");
    });
  return accepted;
}

struct InnerOptions {
  double real = 0.5;
  std::vector<std::string> texts = {"a"};
  void declare(OptionSet& set) {
    set.real("real", real, {0, 1}, "");
    set.texts("texts", texts, "");
  }
};

struct AllOptions {
  double real = 1;
  int64_t integer = 2;
  bool flag = false;
  std::string text = "text", choice = "one";
  std::vector<double> reals = {1, 2};
  std::vector<int64_t> integers = {3};
  std::vector<InnerOptions> sections;
  InnerOptions section;
  YAML::Node node;

  void declare(OptionSet& set) {
    set.real("real", real, {}, "");
    set.integer("integer", integer, {-5, OptionSet::kInfinity}, "");
    set.flag("flag", flag, "");
    set.text("text", text, "");
    set.choice("choice", choice, {"one", "two"}, "");
    set.reals("reals", reals, {0, OptionSet::kInfinity}, "");
    set.integers("integers", integers, {}, "");
    set.section("section", section, "");
    set.sections("sections", sections, "");
    set.node("node", node, "");
  }
};

bool options(std::string_view bytes) {
  YAML::Node source;
  try {
    source = YAML::Load(std::string(bytes));
  } catch (const YAML::Exception&) {
    return false;
  }
  return accepts([&] {
    AllOptions read, again;
    read_options(read, source, "");
    const auto written = write_options(read);
    read_options(again, written, "");
    require(yaml_text(write_options(again)) == yaml_text(written), "options that were written out read otherwise");
  });
}

}  // namespace

const std::map<std::string, Entry>& entries() {
  static const std::map<std::string, Entry> all = {{"safetensors", safetensors},
                                                   {"task_parts", task_parts},
                                                   {"index", index},
                                                   {"statistics", statistics},
                                                   {"idx", idx},
                                                   {"options", options}};
  return all;
}

}  // namespace amalgam::fuzz
