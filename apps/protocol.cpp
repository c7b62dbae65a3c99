#include "apps/protocol.h"

#include <algorithm>
#include <set>

#include "core/error.h"
#include "core/random.h"

namespace amalgam {
namespace {

/// C(n, k), or `most` where that is less.
int64_t choose(int64_t n, int64_t k, int64_t most) {
  int64_t ways = 1;  // C(n − k + i, i): whole at every step
  for (int64_t i = 1; i <= k; ++i) {
    ways = ways * (n - k + i) / i;
    if (ways >= most) return most;
  }
  return ways;
}

std::vector<std::vector<size_t>> all_subsets(const std::vector<size_t>& experts, size_t size) {
  std::vector<std::vector<size_t>> subsets;
  std::vector<bool> taken(experts.size(), false);
  std::fill_n(taken.begin(), size, true);
  do {
    auto& subset = subsets.emplace_back();
    for (size_t i = 0; i < experts.size(); ++i)
      if (taken[i]) subset.push_back(experts[i]);
  } while (std::prev_permutation(taken.begin(), taken.end()));
  return subsets;
}

std::vector<std::vector<size_t>> some_subsets(const std::vector<size_t>& experts, size_t size, size_t count,
                                              const RandomStream& stream) {
  std::vector<std::vector<size_t>> subsets;
  std::set<std::vector<size_t>> known;
  for (uint64_t draw = 0; subsets.size() < count; ++draw) {
    const auto order = stream.permutation(static_cast<int64_t>(experts.size()), draw);
    std::vector<size_t> subset;
    for (size_t i = 0; i < size; ++i) subset.push_back(experts[static_cast<size_t>(order[i])]);
    std::ranges::sort(subset);
    if (known.insert(subset).second) subsets.push_back(subset);
  }
  return subsets;
}

}  // namespace

void ProtocolSpec::declare(OptionSet& set) {
  set.integer(
      "subsets", subsets, {0, 1e6},
      "of the experts, of each size, drawn by the seed: every row is merged of each and scored on all tasks; 0: none");
  set.integers("sizes", sizes, {1, 1e6}, "numbers of experts; empty: 2 … all that are not held out");
  set.texts("held_out", held_out, "tasks whose experts are never merged, and on which every merged model is scored");
}

std::vector<std::vector<size_t>> subsets_of(const ProtocolSpec& spec, const std::vector<std::string>& tasks,
                                            uint64_t seed) {
  std::vector<size_t> merged;
  for (size_t i = 0; i < tasks.size(); ++i)
    if (std::ranges::count(spec.held_out, tasks[i]) == 0) merged.push_back(i);
  return draw_subsets(merged, spec.sizes, spec.subsets, seed);
}

void resolve_protocol(ProtocolSpec& spec, const std::vector<std::string>& tasks) {
  if (!spec.is_on()) {
    require_input(spec.sizes.empty() && spec.held_out.empty(),
                  "protocol.subsets: how many subsets of each size is missing, and without it there is no protocol; "
                  "give a number, for example 5, or leave the section out");
    return;
  }
  std::set<std::string> held;
  for (const auto& name : spec.held_out) {
    require_input(std::ranges::count(tasks, name) > 0, "protocol.held_out: there is no task '{}'{}", name,
                  suggestion(name, tasks));
    require_input(held.insert(name).second, "protocol.held_out: '{}' stands there twice", name);
  }
  const auto merged = static_cast<int64_t>(tasks.size() - held.size());
  require_input(merged >= 2, "protocol.held_out: {} of {} tasks are left to merge; a protocol needs two", merged,
                tasks.size());
  if (spec.sizes.empty())
    for (int64_t size = 2; size <= merged; ++size) spec.sizes.push_back(size);
  std::ranges::sort(spec.sizes);
  require_input(std::ranges::adjacent_find(spec.sizes) == spec.sizes.end(),
                "protocol.sizes: a number stands there twice");
  require_input(spec.sizes.back() <= merged, "protocol.sizes: {} experts, and there are {} that are not held out",
                spec.sizes.back(), merged);
}

std::vector<std::vector<size_t>> draw_subsets(const std::vector<size_t>& experts, const std::vector<int64_t>& sizes,
                                              int64_t count, uint64_t seed) {
  std::vector<std::vector<size_t>> subsets;
  const auto there = static_cast<int64_t>(experts.size());
  for (const int64_t size : sizes) {
    TORCH_CHECK(0 < size && size <= there, size, " of ", there, " experts");
    const RandomStream stream(seed, fmt::format("protocol/{}", size));
    const bool all = choose(there, size, count + 1) <= count;
    auto of_size = all ? all_subsets(experts, static_cast<size_t>(size))
                       : some_subsets(experts, static_cast<size_t>(size), static_cast<size_t>(count), stream);
    std::ranges::move(of_size, std::back_inserter(subsets));
  }
  return subsets;
}

}  // namespace amalgam
