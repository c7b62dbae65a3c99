#include "solvers/methods/vector_fisher.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "solvers/merge_case.h"

namespace amalgam {
namespace {

using test::difference;
using test::kEps64;
using test::MergeCase;
using test::RandomMatrices;
using testing::HasSubstr;
using testing::IsEmpty;

struct Problem {
  std::vector<VectorTerm> terms;
  at::Tensor reference, start;
};

/// Experts around a reference, with Fisher matrices of that rank; those of rank below n have one range in common.
Problem problem(size_t experts, int64_t n, int64_t rank, uint64_t seed = 1) {
  RandomMatrices random(seed);
  Problem result;
  result.reference = random.normal({n});
  result.start = result.reference + 0.1 * random.normal({n});
  const at::Tensor range = random.normal({n, rank});
  for (size_t m = 0; m < experts; ++m) {
    const at::Tensor root = range.mm(random.normal({rank, rank}));
    const double scale = static_cast<double>(m + 1);
    const at::Tensor fisher = rank < n ? root.mm(root.t()) * scale : random.gram(1, n, 3 * n)[0] * scale;
    result.terms.push_back({0.5 + scale, fisher, result.reference + 0.1 * random.normal({n})});
  }
  return result;
}

struct Reference {
  at::Tensor merged;
  double condition = 0.0;  // of what is seen
};

/// θ* + K⁺ b + (I − K⁺ K) (start − θ*), by the definitions, K⁺ by eigendecomposition, one direction at a time.
Reference naive(const Problem& given, const VectorFisherOptions& options) {
  const int64_t n = given.reference.numel();
  at::Tensor k = at::zeros({n, n}, at::kDouble), b = at::zeros({n}, at::kDouble);
  for (const VectorTerm& term : given.terms) {
    at::Tensor fisher = term.fisher;
    if (options.by_trace) fisher = fisher / fisher.diagonal().sum();
    fisher = options.off_diagonal * fisher + (1 - options.off_diagonal) * at::diag(fisher.diagonal());
    fisher = fisher + options.damping * fisher.diagonal().mean() * at::eye(n, at::kDouble);
    k = k + term.weight * fisher;
    b = b + term.weight * fisher.mv(term.vector - given.reference);
  }
  const auto [values, vectors] = at::linalg_eigh(k);
  at::Tensor x = at::zeros({n}, at::kDouble);
  const double largest = values[n - 1].item<double>();
  double least = largest;
  for (int64_t i = 0; i < n; ++i) {
    const at::Tensor direction = vectors.select(1, i);
    const double value = values[i].item<double>();
    if (value > 1e-6 * largest) {
      x = x + direction * direction.dot(b) / value;
      least = std::min(least, value);
    } else {
      x = x + direction * direction.dot(given.start - given.reference);
    }
  }
  return {given.reference + x, largest / least};
}

void expect_naive(const Problem& given, const VectorFisherOptions& options) {
  const VectorSolution solution = match_vectors(given.terms, given.reference, given.start, options);
  const Reference expected = naive(given, options);
  EXPECT_LE(difference(solution.merged, expected.merged), 64 * kEps64 * expected.condition);
  EXPECT_LE(solution.residual, 64 * kEps64 * expected.condition);
}

TEST(MatchVectors, IsTheSolutionOfTheMatchingEquations) {
  for (size_t experts = 1; experts <= 5; ++experts)
    for (const int64_t n : {1, 2, 7, 33})
      for (const bool by_trace : {true, false})
        for (const double damping : {0.0, 0.1, 1.0})
          for (const double lambda : {1.0, 0.9, 0.0}) {
            SCOPED_TRACE(
                fmt::format("M {}, n {}, by trace {}, damping {}, λ {}", experts, n, by_trace, damping, lambda));
            expect_naive(problem(experts, n, n), {by_trace, damping, lambda});
          }
}

TEST(MatchVectors, KeepsTheStartWhereNoTaskHasInformation) {
  for (const int64_t rank : {1, 3, 6}) {
    SCOPED_TRACE(rank);
    const Problem given = problem(3, 7, rank);
    expect_naive(given, {true, 0.0});
    EXPECT_EQ(match_vectors(given.terms, given.reference, given.start, {true, 0.0}).unseen, 7 - rank);
    EXPECT_EQ(match_vectors(given.terms, given.reference, given.start, {true, 1.0}).unseen, 0);
    EXPECT_EQ(match_vectors(given.terms, given.reference, given.start, {true, 0.0, 0.9}).unseen, 0);
  }
}

TEST(MatchVectors, SeesEverythingUnderTheLeastDamping) {
  // δ / (n + δ) is below the threshold: the eigenvalues decide, and the naive reference with them.
  for (const double damping : {1e-7, 1e-5}) expect_naive(problem(3, 7, 3), {true, damping});
}

TEST(MatchVectors, DoesNotDependOnTheOrderOfTheExperts) {
  const Problem given = problem(4, 9, 9);
  Problem turned = given;
  std::rotate(turned.terms.begin(), turned.terms.begin() + 1, turned.terms.end());
  for (const double damping : {0.0, 1.0})
    EXPECT_LE(difference(match_vectors(given.terms, given.reference, given.start, {true, damping}).merged,
                         match_vectors(turned.terms, given.reference, given.start, {true, damping}).merged),
              64 * kEps64 * naive(given, {true, damping}).condition);
}

TEST(MatchVectors, DoesNotDependOnACommonScaleOfTheFisherMatrices) {
  const Problem given = problem(3, 9, 9);
  for (const double factor : {1e-12, 1e9}) {
    Problem scaled = given;
    for (VectorTerm& term : scaled.terms) term.fisher = term.fisher * factor;
    for (const double damping : {0.0, 1.0})
      EXPECT_LE(difference(match_vectors(given.terms, given.reference, given.start, {false, damping}).merged,
                           match_vectors(scaled.terms, given.reference, given.start, {false, damping}).merged),
                64 * kEps64 * naive(given, {false, damping}).condition);
  }
}

TEST(MatchVectors, ByTraceDoesNotDependOnTheScaleOfAnyFisherMatrix) {
  const Problem given = problem(3, 9, 9);
  Problem scaled = given;
  scaled.terms[1].fisher = scaled.terms[1].fisher * 1e-6;
  EXPECT_LE(difference(match_vectors(given.terms, given.reference, given.start, {true, 0.0}).merged,
                       match_vectors(scaled.terms, given.reference, given.start, {true, 0.0}).merged),
            64 * kEps64 * naive(given, {true, 0.0}).condition);
}

TEST(MatchVectors, OfCopiesOfOneExpertIsThatExpert) {
  Problem given = problem(4, 9, 9);
  for (VectorTerm& term : given.terms) term.vector = given.terms[0].vector;
  for (const double damping : {0.0, 1.0})
    EXPECT_LE(difference(match_vectors(given.terms, given.reference, given.start, {true, damping}).merged,
                         given.terms[0].vector),
              64 * kEps64 * naive(given, {true, damping}).condition);
}

TEST(MatchVectors, OfEqualFisherMatricesIsTheWeightedMean) {
  Problem given = problem(2, 9, 9);
  given.terms[1].fisher = given.terms[0].fisher;
  given.terms[0].weight = 1.0;
  given.terms[1].weight = 3.0;
  EXPECT_LE(difference(match_vectors(given.terms, given.reference, given.start, {true, 0.0}).merged,
                       (given.terms[0].vector + 3 * given.terms[1].vector) / 4),
            64 * kEps64 * naive(given, {true, 0.0}).condition);
}

struct DenseVectors : testing::Test {
  MergeCase merge_case;
  DenseVectors() {
    merge_case.add(test::linear("fc", 4, 6, true));
    Layer norm = test::linear("norm", 7, 1, true);
    norm.kind = LayerKind::kLayerNorm;
    merge_case.layers.layers.push_back(norm);
    merge_case.parameter("norm.weight", {7});
    merge_case.parameter("norm.bias", {7});
    merge_case.draw({"a", "b", "c"});
    merge_case.weights = {1.0, 0.5, 2.0};
  }
  Problem problem_of(const std::string& name, const at::Tensor& start) const {
    Problem result{{}, merge_case.base.at(name), start};
    for (size_t m = 0; m < merge_case.tasks.size(); ++m)
      result.terms.push_back({merge_case.weights[m], merge_case.gradient_grams[m].at(name) / MergeCase::kExamples,
                              merge_case.experts[m].at(name)});
    return result;
  }
  static const LayerReport* find(const MergeReport& report, const std::string& name) {
    for (const LayerReport& layer : report.layers)
      if (layer.layer == name) return &layer;
    return nullptr;
  }
};

TEST_F(DenseVectors, AreMergedByMatsUnderEveryNormalisation) {
  merge_case.draw_gradient_grams(20);
  merge_case.build();
  for (const std::string normalise : {"trace", "none", "rows", "fisher"})
    for (const auto& [damping, lambda] : {std::pair{0.0, 1.0}, {1.0, 1.0}, {0.0, 0.7}}) {
      SCOPED_TRACE(fmt::format("{}, damping {}, λ {}", normalise, damping, lambda));
      const auto outcome =
          merge_case.merge(fmt::format("{{method: mats, vectors: dense, normalise: {}, damping: {}, off_diagonal: {}}}",
                                       normalise, damping, lambda));
      for (const std::string name : {"norm.weight", "norm.bias"}) {
        const Reference expected =
            naive(problem_of(name, merge_case.base.at(name)), {normalise == "trace", damping, lambda});
        EXPECT_LE(difference(outcome.merged.at(name), expected.merged), 64 * kEps64 * expected.condition);
        const LayerReport* report = find(outcome.report, name);
        ASSERT_NE(report, nullptr);
        EXPECT_EQ(report->solver, "dense Fisher");
        EXPECT_TRUE(report->converged);
        EXPECT_THAT(report->notes, IsEmpty());
      }
      EXPECT_THAT(outcome.report.fallbacks, IsEmpty());
      EXPECT_EQ(outcome.report.merged_parameters, 4);
    }
}

TEST_F(DenseVectors, LeaveTheLayersAsTheyWere) {
  merge_case.draw_gradient_grams(20);
  merge_case.build();
  const auto plain = merge_case.merge("mats"), dense = merge_case.merge("{method: mats, vectors: dense}");
  EXPECT_TRUE(plain.merged.at("fc.weight").equal(dense.merged.at("fc.weight")));
  EXPECT_TRUE(plain.merged.at("fc.bias").equal(dense.merged.at("fc.bias")));
  EXPECT_FALSE(plain.merged.at("norm.weight").equal(dense.merged.at("norm.weight")));
}

TEST_F(DenseVectors, StartWhereTheMethodStarts) {
  merge_case.draw_gradient_grams(2);  // 6 of 7 directions are seen by three tasks of rank 2
  merge_case.build();
  const std::string name = "norm.weight";
  at::Tensor arithmetic = merge_case.base.at(name).clone(), average = at::zeros({7}, at::kDouble);
  for (size_t m = 0; m < 3; ++m) {
    const at::Tensor& expert = merge_case.experts[m].at(name);
    arithmetic += 0.3 * merge_case.weights[m] * (expert - merge_case.base.at(name));
    average += merge_case.weights[m] / 3.5 * expert;
  }
  const std::vector<std::pair<std::string, at::Tensor>> starts = {{"{method: task_arithmetic, scale: 0.3}", arithmetic},
                                                                  {"zero", at::zeros({7}, at::kDouble)},
                                                                  {"base", merge_case.base.at(name)},
                                                                  {"'expert:b'", merge_case.experts[1].at(name)},
                                                                  {"average", average},
                                                                  {"regmean", average}};
  for (const auto& [init, start] : starts) {
    SCOPED_TRACE(init);
    const auto outcome =
        merge_case.merge(fmt::format("{{method: mats, vectors: dense, off_diagonal: 1, damping: 0, init: {}}}", init));
    const Reference expected = naive(problem_of(name, start), {true, 0.0});
    EXPECT_LE(difference(outcome.merged.at(name), expected.merged), 64 * kEps64 * expected.condition);
    ASSERT_NE(find(outcome.report, name), nullptr);
    EXPECT_THAT(find(outcome.report, name)->notes, testing::ElementsAre(HasSubstr("1 of 7 directions")));
  }
}

TEST_F(DenseVectors, NameATaskWithoutASay) {
  merge_case.draw_gradient_grams(20);
  merge_case.gradient_grams[1].at("norm.weight").zero_();
  for (auto& grams : merge_case.gradient_grams) grams.at("norm.bias").zero_();
  merge_case.build();
  const auto outcome = merge_case.merge("{method: mats, vectors: dense}");
  EXPECT_THAT(find(outcome.report, "norm.weight")->notes, testing::ElementsAre(HasSubstr("task 'b' has no say")));
  EXPECT_THAT(find(outcome.report, "norm.bias")->notes, testing::Contains("averaged: no task has a say"));
  at::Tensor average = at::zeros({7}, at::kDouble);
  for (size_t m = 0; m < 3; ++m) average += merge_case.weights[m] / 3.5 * merge_case.experts[m].at("norm.bias");
  EXPECT_LE(difference(outcome.merged.at("norm.bias"), average), 8 * kEps64);
}

TEST_F(DenseVectors, AreMergedAroundTheAverageWithoutABase) {
  merge_case.draw_gradient_grams(20);
  merge_case.build().base = nullptr;
  const auto outcome = merge_case.merge("{method: mats, vectors: dense, off_diagonal: 1, damping: 1, init: average}");
  const Reference expected = naive(problem_of("norm.weight", merge_case.base.at("norm.weight")), {true, 1.0});
  EXPECT_LE(difference(outcome.merged.at("norm.weight"), expected.merged), 64 * kEps64 * expected.condition);
}

TEST_F(DenseVectors, StandInTheModelsOrderInTheReport) {
  merge_case.draw_gradient_grams(20);
  merge_case.build();
  const auto outcome = merge_case.merge("{method: mats, vectors: dense}");
  ASSERT_EQ(outcome.report.layers.size(), 3);
  EXPECT_EQ(outcome.report.layers[0].layer, "fc");
  EXPECT_EQ(outcome.report.layers[1].layer, "norm.weight");
  EXPECT_EQ(outcome.report.layers[2].layer, "norm.bias");
}

}  // namespace
}  // namespace amalgam
