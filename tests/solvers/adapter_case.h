#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "core/low_rank.h"
#include "solvers/merge_case.h"

namespace amalgam::test {

/// A weight `w.weight` [out, in] that adapters change, and a bias that they leave alone. Owns what the input borrows.
class AdapterCase {
 public:
  /// @param given  the changes of the experts, float64
  explicit AdapterCase(std::vector<LowRank> given) : changes(std::move(given)) {
    const int64_t out = changes[0].up.size(0), in = changes[0].down.size(1);
    merge_case.parameter("w.weight", {out, in});
    merge_case.parameter("w.bias", {out});
    std::vector<std::string> tasks;
    for (size_t m = 0; m < changes.size(); ++m) tasks.push_back("task" + std::to_string(m));
    merge_case.draw(tasks);
    for (size_t m = 0; m < changes.size(); ++m)
      merge_case.experts[m]["w.weight"] = merge_case.base["w.weight"] + changes[m].product();
  }

  /// The change of the weight that a method makes of the adapters.
  at::Tensor merged_change(const std::string& entry) { return outcome(entry).merged.at("w.weight") - base(); }
  MergeOutcome outcome(const std::string& entry) {
    if (sources.empty()) attach();
    return merge_case.merge(entry);
  }
  const at::Tensor& base() const { return merge_case.base.at("w.weight"); }

  std::vector<LowRank> changes;
  MergeCase merge_case;

 private:
  void attach() {
    merge_case.build();
    for (size_t m = 0; m < changes.size(); ++m) {
      sources.push_back(std::make_unique<MemoryTensors>(
          NamedTensors{{down_name("w.weight"), changes[m].down}, {up_name("w.weight"), changes[m].up}}));
      merge_case.input.experts[m].adapter = sources.back().get();
    }
  }

  std::vector<std::unique_ptr<MemoryTensors>> sources;
};

/// Random factors of a rank.
inline LowRank random_change(RandomMatrices& random, int64_t out, int64_t in, int64_t rank) {
  return {random.normal({rank, in}), random.normal({out, rank})};
}

}  // namespace amalgam::test
