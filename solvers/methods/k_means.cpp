#include "solvers/methods/k_means.h"

#include <algorithm>
#include <cmath>

namespace amalgam {
namespace {

constexpr int64_t kMostIterations = 300;

/// ‖point − centroid‖² as differences, not as a sum of three terms: equal points have distance 0 exactly.
at::Tensor squared_distances(const at::Tensor& points, const at::Tensor& centroids) {  // [n, clusters]
  std::vector<at::Tensor> columns;
  for (const at::Tensor& centroid : centroids.unbind(0)) columns.push_back((points - centroid).square().sum(1));
  return at::stack(columns, 1);
}

/// k-means++: each next centroid is a point, drawn by its weight times its squared distance from those before. Where no
/// point has a distance left the last is taken again: a cluster without points.
at::Tensor first_centroids(const at::Tensor& points, const at::Tensor& weights, int64_t clusters,
                           const RandomStream& draws) {
  std::vector<at::Tensor> chosen;
  at::Tensor nearest = at::ones_like(weights);
  for (int64_t c = 0; c < clusters; ++c) {
    const at::Tensor sums = (weights * nearest).cumsum(0);
    const double total = sums[-1].item<double>();
    const double drawn = draws.uniform(static_cast<uint64_t>(c)) * total;
    const int64_t point = total > 0 ? sums.le(drawn).sum().item<int64_t>() : points.size(0) - 1;
    chosen.push_back(points[std::min(point, points.size(0) - 1)]);
    const at::Tensor distances = squared_distances(points, chosen.back().unsqueeze(0)).squeeze(1);
    nearest = c == 0 ? distances : at::minimum(nearest, distances);
  }
  return at::stack(chosen);
}

/// Gives every cluster without points the point that lies farthest from its centroid, as long as one lies anywhere else
/// than on it.
void fill_empty(at::Tensor& nearest, at::Tensor& assigned, int64_t clusters) {
  for (int64_t c = 0; c < clusters; ++c) {
    if (assigned.eq(c).any().item<bool>() || nearest.max().item<double>() == 0) continue;
    const int64_t farthest = nearest.argmax().item<int64_t>();
    assigned[farthest] = c;
    nearest[farthest] = 0;
  }
}

}  // namespace

std::vector<int64_t> k_means(const at::Tensor& points, const std::vector<double>& weights, int64_t clusters,
                             const RandomStream& draws) {
  TORCH_CHECK(points.dim() == 2 && points.scalar_type() == at::kDouble && points.size(0) > 0 && clusters > 0 &&
                  weights.size() == static_cast<size_t>(points.size(0)),
              "k_means: points are expected as float64 [n, width], with n weights");
  const at::Tensor mass = at::tensor(weights, at::kDouble);
  at::Tensor centroids = first_centroids(points, mass, clusters, draws), assigned;
  for (int64_t iteration = 0; iteration < kMostIterations; ++iteration) {
    auto [nearest, now] = squared_distances(points, centroids).min(1);
    fill_empty(nearest, now, clusters);
    if (assigned.defined() && at::equal(assigned, now)) break;
    assigned = now;
    for (int64_t c = 0; c < clusters; ++c) {
      const at::Tensor inside = mass * assigned.eq(c);
      const double total = inside.sum().item<double>();
      if (total > 0) centroids[c] = inside.matmul(points) / total;
    }
  }
  const at::Tensor plain = assigned.contiguous();
  return {plain.const_data_ptr<int64_t>(), plain.const_data_ptr<int64_t>() + plain.numel()};
}

}  // namespace amalgam
