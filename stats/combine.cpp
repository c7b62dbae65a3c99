#include "stats/combine.h"

#include <algorithm>
#include <set>
#include <utility>

#include "core/error.h"
#include "stats/compare.h"
#include "stats/sum_table.h"

namespace amalgam {
namespace {

using Shards = std::vector<StatisticsShard>;

std::string parameter_of(const std::string& unobserved) { return unobserved.substr(0, unobserved.find(": ")); }

std::set<std::string> unobserved_of(const StatisticsHeader& header) {
  std::set<std::string> parameters;
  for (const std::string& entry : header.unobserved) parameters.insert(parameter_of(entry));
  return parameters;
}

// What is different by nature, or is made anew.
bool may_differ(const std::string& field) { return field == "ranges" || field == "unobserved"; }

void check_alike(const StatisticsShard& a, const StatisticsShard& b) {
  for (const FieldDifference& difference : header_differences(a.statistics.header(), b.statistics.header()))
    require_input(may_differ(difference.field),
                  "'{}' and '{}' cannot be added: their '{}' differ, {} and {}; add only statistics of one expert on "
                  "one data set that were collected in one way",
                  a.name, b.name, difference.field, difference.a, difference.b);
}

// By pairs, since a shard may have several ranges, between those of another.
void check_apart(const StatisticsShard& a, const StatisticsShard& b) {
  for (const ExampleRange& left : a.statistics.header().ranges)
    for (const ExampleRange& right : b.statistics.header().ranges)
      require_input(left.end <= right.begin || right.end <= left.begin,
                    "'{}' and '{}' cannot be added: their ranges of examples [{}, {}) and [{}, {}) overlap, so that "
                    "examples would count twice",
                    a.name, b.name, left.begin, left.end, right.begin, right.end);
}

std::vector<ExampleRange> all_ranges(const Shards& shards) {
  std::vector<ExampleRange> ranges;
  for (const StatisticsShard& shard : shards)
    ranges.insert(ranges.end(), shard.statistics.header().ranges.begin(), shard.statistics.header().ranges.end());
  return joined_ranges(std::move(ranges));
}

std::vector<std::string> unobserved_in_all(const Shards& shards) {
  std::set<std::string> parameters = unobserved_of(shards.front().statistics.header());
  for (const StatisticsShard& shard : shards) {
    const auto here = unobserved_of(shard.statistics.header());
    std::erase_if(parameters, [&](const std::string& parameter) { return !here.contains(parameter); });
  }
  std::vector<std::string> entries;
  for (const StatisticsShard& shard : shards)
    for (const std::string& entry : shard.statistics.header().unobserved)
      if (parameters.contains(parameter_of(entry)) && std::find(entries.begin(), entries.end(), entry) == entries.end())
        entries.push_back(entry);
  return entries;
}

// Sums of parameters of several layers that some shards have and others lack: parameter -> their names.
std::map<std::string, std::vector<std::string>> half_summed(const Shards& shards) {
  std::map<std::string, int> uses;
  for (const Layer& layer : shards.front().statistics.header().layers.layers)
    for (const std::string& parameter : {layer.weight, layer.bias})
      if (!parameter.empty()) ++uses[parameter];
  std::map<std::string, std::vector<std::string>> halves;
  for (const auto& [parameter, count] : uses)
    for (const char* sum : {"/squared_gradient", "/gradient_gram"}) {
      const std::string name = parameter + sum;
      const auto have = std::count_if(shards.begin(), shards.end(), [&](const StatisticsShard& shard) {
        return shard.statistics.sums().contains(name);
      });
      if (count > 1 && have > 0 && static_cast<size_t>(have) < shards.size()) halves[parameter].push_back(name);
    }
  return halves;
}

class SumOfShards final : public TensorSource {
 public:
  SumOfShards(Shards shards, const std::vector<std::string>& left_out) : shards_(std::move(shards)) {
    for (const StatisticsShard& shard : shards_)
      infos_.insert(shard.statistics.sums().infos().begin(), shard.statistics.sums().infos().end());
    for (const std::string& name : left_out) infos_.erase(name);
  }

  const std::map<std::string, TensorInfo>& infos() const override { return infos_; }

  at::Tensor get(const std::string& name) const override {
    require_input(contains(name), "there is no tensor '{}'", name);
    at::Tensor sum;
    for (const StatisticsShard& shard : shards_) {
      if (!shard.statistics.sums().contains(name)) continue;
      const at::Tensor more = shard.statistics.sums().get(name);
      if (sum.defined())
        sum.add_(more);
      else
        sum = more.clone();  // what a shard gives may be a view on its file
    }
    return sum;
  }

 private:
  Shards shards_;
  std::map<std::string, TensorInfo> infos_;
};

}  // namespace

Statistics add_statistics(Shards shards) {
  require_input(!shards.empty(), "there are no statistics to add");
  for (size_t i = 0; i < shards.size(); ++i) {
    check_alike(shards.front(), shards[i]);
    for (size_t j = 0; j < i; ++j) check_apart(shards[j], shards[i]);
  }
  std::sort(shards.begin(), shards.end(), [](const StatisticsShard& a, const StatisticsShard& b) {
    return a.statistics.header().ranges.front().begin < b.statistics.header().ranges.front().begin;
  });
  StatisticsHeader header = shards.front().statistics.header();
  header.ranges = all_ranges(shards);
  header.unobserved = unobserved_in_all(shards);
  header.sums_digest.clear();
  const auto former = former_sums(header);
  std::vector<std::string> left_out(former.begin(), former.end());
  for (const auto& [parameter, sums] : half_summed(shards)) {
    left_out.insert(left_out.end(), sums.begin(), sums.end());
    header.unobserved.push_back(parameter + ": it is part of several layers, and not all of them ran for all examples");
  }
  return {std::move(header), std::make_shared<SumOfShards>(std::move(shards), left_out)};
}

}  // namespace amalgam
