#include "stats/statistics.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <utility>

#include "core/digest.h"
#include "core/error.h"
#include "stats/statistics_metadata.h"
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
// - A head whose weight is an embedding's too has no Gram matrices (`has_grams`). Older files hold them; they are read
//   past (`former_sums`), and only the digest still knows them.
// - `rows` counts at each layer of Gram matrices or moments; it is the same for layers that share a Gram matrix.
// - A Gram matrix that the header's `blocks` name is not whole. With blocks of b columns it is [k, b, b], k = ⌈n/b⌉:
//   the blocks on the diagonal, the last one filled up with zeros. With b = 1 it is the diagonal, [n]. Groups come
//   first.
// - A parameter that is one vector (`is_vector`, stats/vector_gradient.h) of at most `vector_limit` elements has a
//   gradient Gram matrix, whole. The header has `vector_limit` only where that kind was collected, so that files of the
//   other kinds are what they were; a reader that does not know the kind refuses the file by the kind's name.
// - A parameter that the header calls unobserved may lack its sums; every other sum of the header's kinds must be
//   there, and no other.

constexpr std::array kKindNames = {"input_gram",         "output_gram",         "squared_gradient", "moments",
                                   "reduced_input_gram", "reduced_output_gram", "gradient_gram"};
const std::map<std::string, std::set<StatisticKind>> kPairs = {
    {"kronecker", {StatisticKind::kInputGram, StatisticKind::kOutputGram}},
    {"kronecker_reduced", {StatisticKind::kReducedInputGram, StatisticKind::kReducedOutputGram}}};

/// @param former  sums that may be there, of any shape
void check_sums(const StatisticsHeader& header, const std::set<std::string>& former, const TensorSource& sums) {
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
    require_input(table.contains(name) || former.contains(name),
                  "it holds '{}', which its layer table and kinds do not know", name);
}

}  // namespace

const char* name_of(StatisticKind kind) { return kKindNames.at(static_cast<size_t>(kind)); }

std::set<StatisticKind> kinds_from_word(const std::string& word) {
  if (const auto pair = kPairs.find(word); pair != kPairs.end()) return pair->second;
  for (size_t i = 0; i < kKindNames.size(); ++i)
    if (word == kKindNames[i]) return {static_cast<StatisticKind>(i)};
  std::vector<std::string> known(kKindNames.begin(), kKindNames.end());
  for (const auto& [pair, kinds] : kPairs) known.push_back(pair);
  throw InputError(fmt::format("there is no kind of statistics '{}'{}", word, suggestion(word, known)));
}

Statistics::Statistics(StatisticsHeader header, std::shared_ptr<const TensorSource> sums)
    : header_(std::move(header)), sums_(std::move(sums)) {}

Statistics Statistics::load(const std::filesystem::path& path) {
  auto file = open_safetensors(path);
  try {
    StatisticsHeader header = header_of(*file);
    const auto former = former_sums(header);
    for (const std::string& name : former) header.blocks.erase(name);
    check_sums(header, former, *file);
    return {std::move(header), std::move(file)};
  } catch (const InputError& error) {
    throw InputError(fmt::format("statistics file '{}': {}", path.string(), error.what()));
  }
}

std::filesystem::path Statistics::save(const std::filesystem::path& path, uint64_t max_shard_bytes) const {
  StatisticsHeader header = header_;
  header.sums_digest = digest_of(*sums_);
  return write_safetensors_sharded(path, *sums_, metadata_of(header), max_shard_bytes);
}

bool Statistics::has_input_gram(const Layer& layer, KroneckerForm form) const {
  return has_grams(header_.layers, layer) && sums_->contains(input_sum_name(layer, "input_gram", form));
}

bool Statistics::has_output_gram(const Layer& layer, KroneckerForm form) const {
  return has_grams(header_.layers, layer) && sums_->contains(layer.name + "/" + sum_name("output_gram", form));
}

bool Statistics::has_squared_gradient(const std::string& parameter) const {
  return sums_->contains(parameter + "/squared_gradient");
}

bool Statistics::has_gradient_gram(const std::string& parameter) const {
  return sums_->contains(parameter + "/gradient_gram");
}

std::string Statistics::input_sum_name(const Layer& layer, const std::string& sum, KroneckerForm form) const {
  return input_gram_owner(header_.layers, layer) + "/" + sum_name(sum, form);
}

std::vector<std::string> Statistics::sum_names(const Layer& layer, const std::set<StatisticKind>& kinds) const {
  std::vector<std::string> names;
  for (const KroneckerForm form : {KroneckerForm::kExpand, KroneckerForm::kReduce}) {
    if (!has_grams(header_.layers, layer)) break;
    const bool expand = form == KroneckerForm::kExpand;
    if (kinds.contains(expand ? StatisticKind::kInputGram : StatisticKind::kReducedInputGram))
      for (const char* sum : {"input_gram", "input_sum"}) names.push_back(input_sum_name(layer, sum, form));
    if (kinds.contains(expand ? StatisticKind::kOutputGram : StatisticKind::kReducedOutputGram))
      names.push_back(layer.name + "/" + sum_name("output_gram", form));
  }
  if (kinds.contains(StatisticKind::kSquaredGradient))
    for (const std::string& parameter : {layer.weight, layer.bias}) names.push_back(parameter + "/squared_gradient");
  std::erase_if(names, [&](const std::string& name) { return !sums_->contains(name); });
  return names;
}

int64_t Statistics::rows(const Layer& layer, KroneckerForm form) const {
  return sums_->get(layer.name + "/" + sum_name("rows", form)).item<int64_t>();
}

at::Tensor Statistics::whole_gram(const std::string& name, int64_t groups, int64_t width) const {
  const at::Tensor sum = sums_->get(name).to(at::kDouble);
  const auto found = header_.blocks.find(name);
  if (found == header_.blocks.end()) return sum.view({groups, width, width});
  const int64_t block = found->second;
  if (block == 1) return at::diag_embed(sum.view({groups, width}));
  const at::Tensor blocks = sum.view({groups, -1, block, block});
  at::Tensor whole = at::zeros({groups, width, width}, sum.options());
  for (int64_t i = 0, begin = 0; begin < width; ++i, begin += block) {
    const int64_t columns = std::min(block, width - begin);
    whole.narrow(1, begin, columns)
        .narrow(2, begin, columns)
        .copy_(blocks.select(1, i).narrow(1, 0, columns).narrow(2, 0, columns));
  }
  return whole;
}

at::Tensor Statistics::input_gram(const Layer& layer, KroneckerForm form) const {
  const int64_t groups = layer.groups, in = layer.in;
  const std::string name = input_sum_name(layer, "input_gram", form);
  const auto count = sums_->get(input_sum_name(layer, "rows", form)).item<int64_t>();
  require_input(count > 0, "statistics of task '{}': no row was counted at layer '{}'", header_.task, layer.name);
  const at::Tensor gram = whole_gram(name, groups, in);
  if (layer.bias.empty()) return gram / count;
  at::Tensor with_bias = at::zeros({groups, in + 1, in + 1}, gram.options());
  with_bias.narrow(1, 0, in).narrow(2, 0, in).copy_(gram);
  if (!header_.blocks.contains(name)) {
    const at::Tensor sum = sums_->get(input_sum_name(layer, "input_sum", form)).to(at::kDouble).view({groups, in});
    with_bias.select(1, in).narrow(1, 0, in).copy_(sum);
    with_bias.select(2, in).narrow(1, 0, in).copy_(sum);
  }
  with_bias.select(1, in).select(1, in).fill_(count);
  return with_bias.div_(count);
}

at::Tensor Statistics::output_gram(const Layer& layer, KroneckerForm form) const {
  return whole_gram(layer.name + "/" + sum_name("output_gram", form), layer.groups, layer.out / layer.groups) /
         header_.examples();
}

at::Tensor Statistics::squared_gradient(const std::string& parameter) const {
  return sums_->get(parameter + "/squared_gradient").to(at::kDouble) / header_.examples();
}

at::Tensor Statistics::gradient_gram(const std::string& parameter) const {
  return sums_->get(parameter + "/gradient_gram").to(at::kDouble) / header_.examples();
}

int64_t StatisticsHeader::examples() const {
  int64_t sum = 0;
  for (const ExampleRange& range : ranges) sum += range.end - range.begin;
  return sum;
}

std::vector<ExampleRange> joined_ranges(std::vector<ExampleRange> ranges) {
  std::sort(ranges.begin(), ranges.end(), [](const auto& a, const auto& b) { return a.begin < b.begin; });
  std::vector<ExampleRange> joined;
  for (const ExampleRange& range : ranges) {
    require_input(range.begin >= 0 && range.begin < range.end, "the range of examples [{}, {}) is none", range.begin,
                  range.end);
    require_input(joined.empty() || joined.back().end <= range.begin,
                  "the ranges of examples [{}, {}) and [{}, {}) overlap", joined.back().begin, joined.back().end,
                  range.begin, range.end);
    if (!joined.empty() && joined.back().end == range.begin)
      joined.back().end = range.end;
    else
      joined.push_back(range);
  }
  return joined;
}

std::string describe(const std::vector<ExampleRange>& ranges) {
  std::string text;
  for (const ExampleRange& range : ranges)
    text += fmt::format("{}[{}, {})", text.empty() ? "" : ", ", range.begin, range.end);
  return text;
}

}  // namespace amalgam
