#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "core/random.h"

namespace amalgam {

/// Clusters points around `clusters` centroids by Lloyd's iterations from k-means++, until no point changes its cluster
/// or 300 times. A cluster that loses all of its points takes the one that lies farthest from its own centroid.
///
/// Fewer different points than clusters leave clusters without points. Equal points and equal draws give equal
/// clusters.
/// @param points   [n, width], float64 on the CPU
/// @param weights  [n], above zero: the centroid is the weighted mean, and the draws go by weight, too
/// @return the cluster of each point, 0 … clusters-1
/// @source Lloyd 1982; Arthur & Vassilvitskii 2007 (k-means++)
std::vector<int64_t> k_means(const at::Tensor& points, const std::vector<double>& weights, int64_t clusters,
                             const RandomStream& draws);

}  // namespace amalgam
