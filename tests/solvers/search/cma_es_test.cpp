#include "solvers/search/cma_es.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numbers>
#include <numeric>

#include "core/safetensors.h"
#include "expect_error.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

using Objective = std::function<double(const std::vector<double>&)>;

std::vector<double> numbers_of(const at::Tensor& vector) {
  const at::Tensor values = vector.contiguous();
  return {values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel()};
}

at::Tensor filled(int64_t n, double value) { return at::full({n}, value, at::kDouble); }

std::vector<double> values_of(const at::Tensor& points, const Objective& f) {
  std::vector<double> values;
  for (int64_t i = 0; i < points.size(0); ++i) values.push_back(f(numbers_of(points[i])));
  return values;
}

void step(CmaEs& search, const Objective& f) { search.tell(values_of(search.ask(), f)); }

CmaEs run(const Objective& f, const at::Tensor& start, const CmaEsOptions& options, uint64_t seed = 1) {
  CmaEs search(start, options, seed);
  while (search.why_stopped().empty()) step(search, f);
  return search;
}

double sphere(const std::vector<double>& x) {
  double sum = 0;
  for (const double v : x) sum += v * v;
  return sum;
}

/// Σ 10^(6 i/(n−1)) x_i²: the condition is 1e6.
double ellipsoid(const std::vector<double>& x) {
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i)
    sum += std::pow(1e6, static_cast<double>(i) / static_cast<double>(x.size() - 1)) * x[i] * x[i];
  return sum;
}

double rosenbrock(const std::vector<double>& x) {
  double sum = 0;
  for (size_t i = 0; i + 1 < x.size(); ++i) sum += 100 * std::pow(x[i + 1] - x[i] * x[i], 2) + std::pow(1 - x[i], 2);
  return sum;
}

double rastrigin(const std::vector<double>& x) {
  double sum = 0;
  for (const double v : x) sum += 10 + v * v - 10 * std::cos(2 * std::numbers::pi * v);
  return sum;
}

CmaEsOptions until(double target, int64_t evaluations) {
  CmaEsOptions options;
  options.target = target;
  options.evaluations = evaluations;
  return options;
}

TEST(CmaEs, FindsTheMinimumOfTheSphere) {
  for (const int64_t n : {1, 2, 3, 10, 20})
    for (const bool separable : {false, true}) {
      CmaEsOptions options = until(1e-10, 200 * n + 400);
      options.separable = separable;
      const CmaEs search = run(sphere, filled(n, 1.0), options);
      EXPECT_EQ(search.why_stopped(), "the target is reached") << n;
      EXPECT_LE(sphere(numbers_of(search.best_point())), 1e-10);
      EXPECT_EQ(search.best_value(), sphere(numbers_of(search.best_point())));
    }
}

TEST(CmaEs, LearnsTheAxesOfAnEllipsoid) {
  const CmaEs search = run(ellipsoid, filled(8, 1.0), until(1e-10, 8000));
  EXPECT_EQ(search.why_stopped(), "the target is reached");
  // C is near the inverse Hessian, to a factor: neighbours in the spectrum differ by 10^(6/7).
  const at::Tensor diagonal = search.covariance().diagonal();
  EXPECT_GT(diagonal[0].item<double>() / diagonal[7].item<double>(), 1e5);
}

TEST(CmaEs, NeedsFewerPointsWithADiagonalWhereTheAxesAreTheEllipsoids) {
  CmaEsOptions options = until(1e-8, 30000);
  const CmaEs full = run(ellipsoid, filled(20, 1.0), options);
  options.separable = true;
  const CmaEs diagonal = run(ellipsoid, filled(20, 1.0), options);
  ASSERT_EQ(full.why_stopped(), "the target is reached");
  ASSERT_EQ(diagonal.why_stopped(), "the target is reached");
  EXPECT_LT(2 * diagonal.evaluations(), full.evaluations());
}

TEST(CmaEs, NeedsTheWholeCovarianceWhereTheAxesAreTurned) {
  const auto [basis, upper] = at::linalg_qr(at::randn({8, 8}, RandomStream(5, "basis").generator(), at::kDouble));
  const Objective turned = [basis = basis](const std::vector<double>& x) {
    return ellipsoid(numbers_of(basis.matmul(at::tensor(x, at::kDouble))));
  };
  CmaEsOptions options = until(1e-8, 8000);
  EXPECT_EQ(run(turned, filled(8, 1.0), options).why_stopped(), "the target is reached");
  options.separable = true;
  EXPECT_GT(run(turned, filled(8, 1.0), options).best_value(), 1e-8);
}

TEST(CmaEs, GoesRoundTheBendOfRosenbrock) {
  const CmaEs search = run(rosenbrock, filled(6, 0.0), until(1e-10, 10000));
  EXPECT_EQ(search.why_stopped(), "the target is reached");
  EXPECT_TRUE(at::allclose(search.best_point(), filled(6, 1.0), 0, 1e-4));
}

TEST(CmaEs, FindsTheMinimumAmongTheManyOfRastriginWithALargePopulation) {
  CmaEsOptions options = until(1e-8, 40000);
  options.population = 100;
  options.step = 2.0;
  const CmaEs search = run(rastrigin, filled(4, 3.0), options);
  EXPECT_EQ(search.why_stopped(), "the target is reached");
  EXPECT_TRUE(at::allclose(search.best_point(), filled(4, 0.0), 0, 1e-4));
}

/// The tutorial's update, in its letters and with its C^{-1/2} from eigenvectors.
struct Reference {
  at::Tensor m, C, p_sigma, p_c;
  double sigma;
  int generation = 0;

  void update(const at::Tensor& points, const std::vector<double>& values, const CmaEsConstants& c) {
    const auto n = m.size(0);
    const auto [eigenvalues, B] = at::linalg_eigh(C);
    const at::Tensor inverse_root = B.matmul(at::diag(eigenvalues.rsqrt())).matmul(B.t());
    std::vector<size_t> order(values.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::ranges::sort(order, {}, [&](size_t i) { return values[i]; });
    std::vector<at::Tensor> y;
    for (const size_t i : order) y.push_back((points[static_cast<int64_t>(i)] - m) / sigma);
    at::Tensor y_w = at::zeros({n}, at::kDouble);
    for (int64_t i = 0; i < c.parents; ++i) y_w += c.weights[static_cast<size_t>(i)] * y[static_cast<size_t>(i)];
    m = m + sigma * y_w;
    p_sigma = (1 - c.step_rate) * p_sigma +
              std::sqrt(c.step_rate * (2 - c.step_rate) * c.effective) * inverse_root.matmul(y_w);
    const double norm = p_sigma.norm().item<double>();
    ++generation;
    const double limit = (1.4 + 2 / (static_cast<double>(n) + 1)) * c.expected_norm;
    const double h = norm / std::sqrt(1 - std::pow(1 - c.step_rate, 2 * generation)) < limit ? 1 : 0;
    p_c = (1 - c.path_rate) * p_c + h * std::sqrt(c.path_rate * (2 - c.path_rate) * c.effective) * y_w;
    double sum = 0;
    at::Tensor rank_mu = at::zeros({n, n}, at::kDouble);
    for (size_t i = 0; i < y.size(); ++i) {
      const double length = inverse_root.matmul(y[i]).norm().item<double>();
      const double w = c.weights[i] * (c.weights[i] < 0 ? static_cast<double>(n) / (length * length) : 1);
      rank_mu += w * y[i].outer(y[i]);
      sum += c.weights[i];
    }
    const double lost = (1 - h) * c.path_rate * (2 - c.path_rate);
    C = (1 + c.rank_one_rate * lost - c.rank_one_rate - c.rank_mu_rate * sum) * C + c.rank_one_rate * p_c.outer(p_c) +
        c.rank_mu_rate * rank_mu;
    sigma *= std::exp(c.step_rate / c.step_damping * (norm / c.expected_norm - 1));
  }
};

TEST(CmaEs, MovesAsTheFormulasOfTheTutorialSay) {
  CmaEsOptions options;
  options.step = 0.05;  // too small at first, so that h_σ is 0 for some generations
  CmaEs search(filled(5, 1.0), options, 3);
  Reference expected{filled(5, 1.0), at::eye(5, at::kDouble), filled(5, 0.0), filled(5, 0.0), 0.05};
  for (int i = 0; i < 30; ++i) {
    const at::Tensor points = search.ask();
    const std::vector<double> values = values_of(points, ellipsoid);
    search.tell(values);
    expected.update(points, values, search.constants());
    ASSERT_TRUE(at::allclose(search.mean(), expected.m, 1e-9, 1e-12)) << i;
    ASSERT_TRUE(at::allclose(search.covariance(), expected.C, 1e-8, 1e-10)) << i;
    ASSERT_NEAR(search.step(), expected.sigma, 1e-9 * expected.sigma) << i;
  }
}

TEST(CmaEs, LooksAtTheOrderOfValuesAlone) {
  const CmaEs plain = run(sphere, filled(6, 1.0), {.evaluations = 600});
  const Objective root = [](const std::vector<double>& x) { return std::log(sphere(x)) - 7; };
  const CmaEs bent = run(root, filled(6, 1.0), {.evaluations = 600});
  EXPECT_EQ(plain.evaluations(), bent.evaluations());
  EXPECT_TRUE(at::equal(plain.best_point(), bent.best_point()));
  EXPECT_TRUE(at::equal(plain.covariance(), bent.covariance()));
}

TEST(CmaEs, GoesWithAFunctionThatIsMoved) {
  const Objective moved = [](const std::vector<double>& x) {
    std::vector<double> shifted = x;
    for (double& v : shifted) v -= 4.0;
    return ellipsoid(shifted);
  };
  const CmaEs here = run(ellipsoid, filled(5, 1.0), {.evaluations = 400});
  const CmaEs there = run(moved, filled(5, 5.0), {.evaluations = 400});
  EXPECT_TRUE(at::allclose(here.best_point() + 4.0, there.best_point(), 0, 1e-6));
}

TEST(CmaEs, GoesWithAFunctionThatIsScaled) {
  const Objective wide = [](const std::vector<double>& x) {
    std::vector<double> scaled = x;
    for (double& v : scaled) v /= 1024.0;
    return sphere(scaled);
  };
  const CmaEs small = run(sphere, filled(5, 1.0), {.step = 0.5, .evaluations = 400});
  const CmaEs large = run(wide, filled(5, 1024.0), {.step = 512, .evaluations = 400});
  EXPECT_TRUE(at::equal(small.best_point() * 1024, large.best_point()));
}

TEST(CmaEs, AsksTheSameUntilItIsToldAndOtherPointsOfAnotherSeed) {
  CmaEs search(filled(3, 0.0), {}, 1);
  const at::Tensor first = search.ask();
  EXPECT_TRUE(at::equal(first, search.ask()));
  EXPECT_FALSE(at::equal(first, CmaEs(filled(3, 0.0), {}, 2).ask()));
  step(search, sphere);
  EXPECT_FALSE(at::equal(first, search.ask()));
}

TEST(CmaEs, SamplesWithTheStepAroundTheMean) {
  CmaEsOptions options;
  options.population = 4000;
  options.step = 0.5;
  const at::Tensor points = CmaEs(filled(3, 2.0), options, 1).ask();
  EXPECT_TRUE(at::allclose(points.mean(0), filled(3, 2.0), 0, 5 * 0.5 / std::sqrt(4000)));
  EXPECT_TRUE(at::allclose(points.std(0), filled(3, 0.5), 0, 5 * 0.5 / std::sqrt(8000)));
}

class SavedCmaEs : public testing::TestWithParam<bool> {};

TEST_P(SavedCmaEs, GoesOnAsIfItHadNotStopped) {
  CmaEsOptions options = {.separable = GetParam(), .evaluations = 900};
  const CmaEs whole = run(rosenbrock, filled(5, 0.0), options, 7);
  CmaEs first(filled(5, 0.0), options, 7);
  for (int i = 0; i < 23; ++i) step(first, rosenbrock);
  const TemporaryFolder folder;
  const auto path = folder / "cma_es.safetensors";
  write_safetensors(path, first.state());
  const SafetensorsFile file(path);
  NamedTensors state;
  for (const auto& [name, info] : file.infos()) state[name] = file.get(name);
  CmaEs second(state, options, 7);
  EXPECT_EQ(second.evaluations(), first.evaluations());
  while (second.why_stopped().empty()) step(second, rosenbrock);
  EXPECT_EQ(second.why_stopped(), whole.why_stopped());
  EXPECT_EQ(second.best_value(), whole.best_value());
  EXPECT_TRUE(at::equal(second.best_point(), whole.best_point()));
  EXPECT_TRUE(at::equal(second.covariance(), whole.covariance()));
  EXPECT_EQ(second.evaluations(), whole.evaluations());
  ASSERT_EQ(second.history().size(), whole.history().size());
  for (size_t i = 0; i < whole.history().size(); ++i) EXPECT_EQ(second.history()[i].best, whole.history()[i].best);
}

INSTANTIATE_TEST_SUITE_P(Covariances, SavedCmaEs, testing::Bool(),
                         [](const auto& param) { return param.param ? "diagonal" : "full"; });

TEST(SavedCmaEs, RefusesTheStateOfAnotherSearch) {
  const NamedTensors state = CmaEs(filled(5, 0.0), {}, 1).state();
  EXPECT_THAT(input_error_of([&] { CmaEs(state, {.separable = true}, 1); }), testing::HasSubstr("'covariance'"));
  NamedTensors without = state;
  without.erase("history");
  EXPECT_THAT(input_error_of([&] { CmaEs(without, {}, 1); }), testing::HasSubstr("history"));
  EXPECT_THAT(input_error_of([&] { CmaEs(NamedTensors{}, {}, 1); }), testing::HasSubstr("no mean"));
}

TEST(CmaEsStops, BeforeAGenerationThatWouldGoPastTheBudget) {
  CmaEsOptions options = {.population = 10, .evaluations = 39};
  const CmaEs search = run(sphere, filled(5, 1.0), options);
  EXPECT_EQ(search.evaluations(), 30);
  EXPECT_EQ(search.why_stopped(), "the budget of 39 evaluations is spent");
  EXPECT_EQ(run(sphere, filled(5, 1.0), {.population = 10, .evaluations = 9}).evaluations(), 0);
  EXPECT_EQ(run(sphere, filled(5, 1.0), {.population = 10, .evaluations = 40, .spent = 10}).evaluations(), 30);
  EXPECT_EQ(run(sphere, filled(5, 1.0), {.population = 10, .evaluations = 40, .spent = 11}).evaluations(), 20);
}

TEST(CmaEsStops, WhenItsPatienceIsSpent) {
  CmaEs search(filled(5, 1.0), {.evaluations = 100000, .patience = 4}, 1);
  step(search, [](const auto&) { return 0.0; });
  int64_t generations = 1;
  for (; search.why_stopped().empty(); ++generations) step(search, [](const auto&) { return 1.0; });
  EXPECT_EQ(generations, 5);
  EXPECT_EQ(search.why_stopped(), "no better point in 4 generations");
  EXPECT_EQ(search.best_value(), 0.0);
}

TEST(CmaEsStops, OnAPlateau) {
  const CmaEs search = run([](const auto&) { return 1.0; }, filled(5, 1.0), {.evaluations = 100000});
  EXPECT_EQ(search.generations(), 10 + 19);  // ⌈30 · 5 / 8⌉ = 19
  EXPECT_EQ(search.why_stopped(), "the best value of 29 generations is the same");
}

TEST(CmaEsStops, WhereValuesNoLongerDiffer) {
  const CmaEs search = run(sphere, filled(5, 1.0), {.evaluations = 100000});
  EXPECT_EQ(search.why_stopped(), "values differ by less than 1e-12");
  EXPECT_LT(search.best_value(), 1e-11);
}

TEST(CmaEsStops, WhereStepsDiverge) {
  const CmaEs search = run([](const auto& x) { return x[0]; }, filled(2, 0.0), {.evaluations = 100000});
  EXPECT_EQ(search.why_stopped(), "the steps diverge: the first step is far too small");
}

TEST(CmaEsStops, WhereNoiseIsAllThatIsLeft) {
  const RandomStream noise(4, "noise");
  uint64_t draw = 0;
  const CmaEs search = run([&](const auto&) { return noise.uniform(++draw); }, filled(5, 1.0), {.evaluations = 100000});
  EXPECT_EQ(search.why_stopped(), "the values no longer improve");
}

TEST(CmaEs, TakesAValueThatIsNotFiniteForTheWorst) {
  const Objective half = [](const std::vector<double>& x) { return x[0] < 0.5 ? std::nan("") : sphere(x); };
  const CmaEs search = run(half, filled(3, 1.0), {.evaluations = 2000});
  EXPECT_NEAR(search.best_value(), 0.25, 0.05);
  const CmaEs nowhere = run([](const auto&) { return std::nan(""); }, filled(3, 1.0), {.evaluations = 20000});
  EXPECT_TRUE(at::equal(nowhere.best_point(), filled(3, 1.0)));
  EXPECT_THAT(nowhere.why_stopped(), testing::HasSubstr("is the same"));
}

TEST(CmaEs, RefusesAStartOrOptionsThatCannotBe) {
  EXPECT_THROW(CmaEs(at::zeros({2, 2}, at::kDouble), {}, 1), c10::Error);
  EXPECT_THROW(CmaEs(filled(2, std::nan("")), {}, 1), c10::Error);
  EXPECT_THROW(CmaEs(filled(2, 0.0), {.step = 0.0}, 1), c10::Error);
  EXPECT_THROW(CmaEs(filled(2, 0.0), {.population = 2}, 1), c10::Error);
  CmaEs search(filled(2, 0.0), {}, 1);
  EXPECT_THROW(search.tell({1.0}), c10::Error);
}

}  // namespace
}  // namespace amalgam
