#include "solvers/methods/lora_lego.h"

#include <algorithm>
#include <cmath>

#include "core/random.h"
#include "solvers/methods/k_means.h"

namespace amalgam {
namespace {

const RegisterMethod<LoraLego> registered("lora_lego",
                                          "the rank-1 units of all adapters, clustered, a unit for each cluster",
                                          "Zhao et al. 2025");

/// The units of all adapters that have a say, and what each of them weighs.
struct Units {
  at::Tensor points;  // [units, in + out], float64 on the CPU
  std::vector<double> weights;
  double rank = 0;        // the adapters' mean rank, by weight
  int64_t most_rank = 0;  // the largest
};

Units pool(const std::vector<LowRank>& changes, const std::vector<double>& weights) {
  Units units;
  std::vector<at::Tensor> points;
  double total = 0;
  for (size_t m = 0; m < changes.size(); ++m) {
    if (weights[m] == 0) continue;
    const int64_t rank = changes[m].rank();
    points.push_back(at::cat({changes[m].down, changes[m].up.t()}, 1).to(at::kCPU, at::kDouble));
    units.weights.insert(units.weights.end(), static_cast<size_t>(rank), weights[m]);
    units.rank += weights[m] * static_cast<double>(rank);
    units.most_rank = std::max(units.most_rank, rank);
    total += weights[m];
  }
  units.points = at::cat(points);
  units.rank /= total;
  return units;
}

/// The centroid of each cluster, as long as its members are on average: [clusters, in + out]; zero for one without any.
at::Tensor representatives(const Units& units, const std::vector<int64_t>& assigned, int64_t clusters) {
  const at::Tensor weights = at::tensor(units.weights, at::kDouble), cluster = at::tensor(assigned, at::kLong);
  const at::Tensor norms = units.points.norm(2, {1});
  at::Tensor result = at::zeros({clusters, units.points.size(1)}, at::kDouble);
  for (int64_t c = 0; c < clusters; ++c) {
    const at::Tensor inside = weights * cluster.eq(c);
    const double total = inside.sum().item<double>();
    if (total == 0) continue;
    const at::Tensor centroid = inside.matmul(units.points) / total;
    const double norm = centroid.norm().item<double>();
    // Units that cancel one another have no direction in common: no unit stands for them.
    if (norm > 0) result[c] = centroid * (inside.dot(norms).item<double>() / total / norm);
  }
  return result;
}

}  // namespace

void LoraLego::declare_options(OptionSet& set) {
  set.integer("clusters", clusters_, {0, 1e6}, "rank of the merged change, K; 0: the largest of the adapters' ranks");
}

LowRank LoraLego::merge_factors(const MergeInput& input, const std::string& weight, const std::vector<LowRank>& changes,
                                const std::vector<double>& weights) {
  const Units units = pool(changes, weights);
  const int64_t clusters = std::min(clusters_ > 0 ? clusters_ : units.most_rank, units.points.size(0));
  const auto assigned = k_means(units.points, units.weights, clusters, RandomStream(input.seed, "lora_lego/" + weight));
  const at::Tensor merged = representatives(units, assigned, clusters);
  const int64_t in = changes[0].down.size(1);
  const double scale = std::sqrt(units.rank / static_cast<double>(clusters));
  const at::Device device = changes[0].down.device();
  return {merged.slice(1, 0, in).to(device), merged.slice(1, in).t().mul(scale).to(device)};
}

}  // namespace amalgam
