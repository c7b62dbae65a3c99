#include "solvers/methods/k_means.h"

#include <gtest/gtest.h>

#include <set>

#include "solvers/random_matrices.h"

namespace amalgam {
namespace {

std::vector<int64_t> cluster(const at::Tensor& points, int64_t clusters, uint64_t seed = 0) {
  return k_means(points, std::vector<double>(static_cast<size_t>(points.size(0)), 1.0), clusters,
                 RandomStream(seed, "k_means test"));
}

TEST(KMeans, FindsGroupsThatLieFarApart) {
  test::RandomMatrices random(1);
  const at::Tensor centres = at::tensor({0.0, 0.0, 100.0, 0.0, 0.0, 100.0}, at::kDouble).view({3, 2});
  const at::Tensor points = centres.repeat({7, 1}) + random.normal({21, 2});
  for (uint64_t seed = 0; seed < 10; ++seed) {
    const auto found = cluster(points, 3, seed);
    for (size_t i = 3; i < found.size(); ++i) EXPECT_EQ(found[i], found[i % 3]) << i;
    EXPECT_EQ(std::set(found.begin(), found.end()).size(), 3U);
  }
}

TEST(KMeans, GivesEqualPointsOneClusterAndDifferentOnesTheirOwn) {
  test::RandomMatrices random(2);
  const at::Tensor points = random.normal({4, 3}).repeat({3, 1});
  for (uint64_t seed = 0; seed < 10; ++seed) {
    const auto found = cluster(points, 4, seed);
    for (size_t i = 4; i < found.size(); ++i) EXPECT_EQ(found[i], found[i % 4]);
    EXPECT_EQ(std::set(found.begin(), found.end()).size(), 4U);
  }
}

TEST(KMeans, LeavesClustersEmptyWhereThereAreTooFewDifferentPoints) {
  const auto found = cluster(at::ones({5, 2}, at::kDouble), 3);
  EXPECT_EQ(std::set(found.begin(), found.end()).size(), 1U);
}

TEST(KMeans, EndsWhereNoPointIsNearerToAnotherCentroid) {
  test::RandomMatrices random(3);
  const at::Tensor points = random.normal({40, 2});
  const auto found = cluster(points, 5);
  std::vector<at::Tensor> centroids;
  for (int64_t c = 0; c < 5; ++c) {
    std::vector<at::Tensor> members;
    for (size_t i = 0; i < found.size(); ++i)
      if (found[i] == c) members.push_back(points[static_cast<int64_t>(i)]);
    ASSERT_FALSE(members.empty());
    centroids.push_back(at::stack(members).mean(0));
  }
  for (size_t i = 0; i < found.size(); ++i) {
    const auto distance = [&](int64_t c) {
      return (points[static_cast<int64_t>(i)] - centroids[static_cast<size_t>(c)]).norm().item<double>();
    };
    for (int64_t c = 0; c < 5; ++c) EXPECT_LE(distance(found[i]), distance(c) * (1 + 1e-12));
  }
}

TEST(KMeans, WeighsPointsInTheCentroid) {
  // The centroid of 1 and 2.5 is 2.485, so that 1 is nearer to 0. Of equal weights it would be 1.75, and 1 would stay.
  const at::Tensor points = at::tensor({0.0, 1.0, 2.5}, at::kDouble).view({3, 1});
  for (uint64_t seed = 0; seed < 10; ++seed) {
    const auto found = k_means(points, {1, 1, 100}, 2, RandomStream(seed, "k_means test"));
    EXPECT_EQ(found[0], found[1]) << seed;
    EXPECT_NE(found[0], found[2]) << seed;
  }
}

}  // namespace
}  // namespace amalgam
