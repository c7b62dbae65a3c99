// A collector's sums on their way: saved and resumed, added up over processes.
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/safetensors.h"
#include "stats/collector.h"

namespace amalgam {
namespace {

using nlohmann::json;

constexpr const char* kFormat = "amalgam statistics, unfinished";

}  // namespace

// Note [Unfinished statistics]
// A safetensors file of the sums so far as they are in memory, so that nothing is rounded twice. Its metadata are the
// identity of the work, the examples so far, and what is known of each layer beside its sums, in the table's order.

void StatisticsCollector::save_progress(const std::filesystem::path& path, const std::string& identity) const {
  TORCH_INTERNAL_ASSERT(held_.empty(), "progress is saved between batches");
  json states = json::array();
  for (const auto& [key, state] : states_)
    states.push_back({{"positions", state.positions}, {"observed", state.observed}, {"gradient", state.has_gradient}});
  write_safetensors(path, sums_,
                    {{"format", kFormat},
                     {"identity", identity},
                     {"examples", std::to_string(examples_)},
                     {"states", states.dump()}});
}

bool StatisticsCollector::resume(const std::filesystem::path& path, const std::string& identity, at::Device device) {
  if (!std::filesystem::exists(path)) return false;
  try {
    const SafetensorsFile file(path);
    const auto& metadata = file.metadata();
    if (metadata.at("format") != kFormat || metadata.at("identity") != identity) return false;
    for (const auto& [name, info] : file.infos())
      if (!collects(name) || table_.at(name).tensor != info) return false;
    const auto states = json::parse(metadata.at("states"));
    const auto examples = std::stoll(metadata.at("examples"));
    if (states.size() != states_.size() || examples <= 0) return false;
    auto resumed = states_;
    auto saved = states.begin();
    for (auto& [key, state] : resumed) {
      saved->at("positions").get_to(state.positions);
      saved->at("observed").get_to(state.observed);
      saved->at("gradient").get_to(state.has_gradient);
      ++saved;
    }
    states_ = std::move(resumed);
    for (const auto& [name, info] : file.infos()) sum(name, device).copy_(file.get(name));
    examples_ = examples;
    return true;
  } catch (const InputError&) {
    return false;  // a damaged file only costs the work again
  } catch (const json::exception&) {
    return false;
  } catch (const std::out_of_range&) {
    return false;
  } catch (const std::invalid_argument&) {
    return false;
  }
}

void StatisticsCollector::reduce(const std::function<void(at::Tensor&)>& sum_to_root, bool is_root, at::Device device) {
  for (const auto& [name, info] : table_) {
    at::Tensor& total = sum(name, device);
    at::Tensor on_host = total.cpu();
    sum_to_root(on_host);
    if (is_root && !total.is_alias_of(on_host)) total.copy_(on_host);
    if (!is_root) total.zero_();
  }
  at::Tensor counts = at::zeros({static_cast<int64_t>(states_.size()) + 1, 3}, at::kLong);
  auto count = counts.accessor<int64_t, 2>();
  int64_t i = 0;
  for (const auto& [key, state] : states_) {
    count[i][0] = state.positions;
    count[i][1] = state.observed ? 1 : 0;
    count[i++][2] = state.has_gradient ? 1 : 0;
  }
  count[i][0] = examples_;
  sum_to_root(counts);
  if (!is_root) counts.zero_();
  i = 0;
  for (auto& [key, state] : states_) {
    state.positions = count[i][0];
    state.observed = count[i][1] > 0;
    state.has_gradient = count[i++][2] > 0;
  }
  examples_ = count[i][0];
}

}  // namespace amalgam
