#include "solvers/search/cma_es.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "core/error.h"

namespace amalgam {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kEqualValues = 1e-12;

at::TensorOptions float64() { return at::TensorOptions(at::kCPU).dtype(at::kDouble); }

at::Tensor tensor_of(const std::vector<double>& values) { return at::tensor(values, float64()); }

/// Their places, lowest value first; of equal ones the first.
std::vector<int64_t> ascending(const std::vector<double>& values) {
  std::vector<int64_t> order(values.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return values[static_cast<size_t>(a)] < values[static_cast<size_t>(b)];
  });
  return order;
}

double median_of(std::vector<double> values) {
  std::ranges::sort(values);
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

/// Whether values, oldest first, are no better in their last third than in their first.
bool is_stagnant(const std::vector<double>& values) {
  const auto third = static_cast<std::ptrdiff_t>(values.size() * 3 / 10);
  return median_of({values.end() - third, values.end()}) >= median_of({values.begin(), values.begin() + third});
}

void check_options(const CmaEsOptions& options) {
  TORCH_CHECK(options.step > 0 && std::isfinite(options.step), "CMA-ES needs a positive step, and got ", options.step);
  TORCH_CHECK(options.evaluations >= 0 && options.patience >= 0, "CMA-ES: a limit cannot be negative");
}

at::Tensor take(const NamedTensors& state, const std::string& name, at::IntArrayRef shape) {
  const auto found = state.find(name);
  require_input(
      found != state.end() && found->second.scalar_type() == at::kDouble && found->second.sizes() == shape,
      "the saved state of the search has no '{}' of float64 and the sizes of this one; remove it to begin anew", name);
  return found->second.clone();
}

}  // namespace

CmaEs::CmaEs(const at::Tensor& start, const CmaEsOptions& options, uint64_t seed)
    : options_(options), random_(seed, "cma_es") {
  check_options(options);
  TORCH_CHECK(start.dim() == 1 && start.isfinite().all().item<bool>(), "CMA-ES starts from a vector of finite values");
  const int64_t n = start.size(0);
  constants_ = cma_es_constants(n, options.population, options.separable);
  mean_ = start.to(at::kCPU, at::kDouble, /*non_blocking=*/false, /*copy=*/true);
  covariance_ = options.separable ? at::ones({n}, float64()) : at::eye(n, float64());
  step_path_ = at::zeros({n}, float64());
  path_ = at::zeros({n}, float64());
  step_ = options.step;
  best_point_ = mean_.clone();
  best_value_ = kInfinity;
  take_root();
  why_stopped_ = reason_to_stop();
}

CmaEs::CmaEs(const NamedTensors& state, const CmaEsOptions& options, uint64_t seed)
    : options_(options), random_(seed, "cma_es") {
  check_options(options);
  read_state(state);
  take_root();
  why_stopped_ = reason_to_stop();
}

void CmaEs::read_state(const NamedTensors& state) {
  const auto mean = state.find("mean");
  require_input(mean != state.end() && mean->second.dim() == 1 && mean->second.size(0) > 0,
                "the saved state of the search has no mean; remove it to begin anew");
  const int64_t n = mean->second.size(0);
  constants_ = cma_es_constants(n, options_.population, options_.separable);
  mean_ = take(state, "mean", {n});
  covariance_ = options_.separable ? take(state, "covariance", {n}) : take(state, "covariance", {n, n});
  step_path_ = take(state, "step_path", {n});
  path_ = take(state, "path", {n});
  best_point_ = take(state, "best_point", {n});
  const at::Tensor scalars = take(state, "scalars", {4});
  step_ = scalars[0].item<double>();
  best_value_ = scalars[1].item<double>();
  best_generation_ = static_cast<int64_t>(scalars[2].item<double>());
  spread_ = scalars[3].item<double>();
  const auto history = state.find("history");
  require_input(history != state.end() && history->second.dim() == 2,
                "the saved state of the search has no history; remove it to begin anew");
  const at::Tensor values = take(state, "history", {history->second.size(0), 2});
  for (int64_t i = 0; i < values.size(0); ++i)
    history_.push_back({values[i][0].item<double>(), values[i][1].item<double>()});
}

NamedTensors CmaEs::state() const {
  std::vector<double> values;
  for (const CmaEsGeneration& generation : history_) values.insert(values.end(), {generation.best, generation.median});
  return {{"mean", mean_},
          {"covariance", covariance_},
          {"step_path", step_path_},
          {"path", path_},
          {"best_point", best_point_},
          {"scalars", tensor_of({step_, best_value_, static_cast<double>(best_generation_), spread_})},
          {"history", tensor_of(values).reshape({generations(), 2})}};
}

at::Tensor CmaEs::draws() const {
  const int64_t n = mean_.size(0);
  at::Tensor z = at::empty({constants_.population, n}, float64());
  double* values = z.mutable_data_ptr<double>();
  for (int64_t i = 0; i < z.numel(); ++i)
    values[i] = random_.normal(static_cast<uint64_t>(generations()), static_cast<uint64_t>(i));
  return z;
}

at::Tensor CmaEs::shaped(const at::Tensor& draws) const {
  return options_.separable ? draws * root_ : draws.matmul(root_);
}

at::Tensor CmaEs::ask() const { return mean_ + step_ * shaped(draws()); }

void CmaEs::tell(const std::vector<double>& values) {
  TORCH_CHECK(static_cast<int64_t>(values.size()) == constants_.population, "CMA-ES asked for ", constants_.population,
              " values, and was told ", values.size());
  std::vector<double> finite = values;
  for (double& value : finite)
    if (!std::isfinite(value)) value = kInfinity;
  const std::vector<int64_t> order = ascending(finite);
  const at::Tensor best_first = at::tensor(order);
  const at::Tensor z = draws(), y = shaped(z);  // [population, n]
  remember(y[order.front()], finite, order);
  update(z.index_select(0, best_first), y.index_select(0, best_first));
  take_root();
  why_stopped_ = reason_to_stop();
}

void CmaEs::remember(const at::Tensor& y, const std::vector<double>& values, const std::vector<int64_t>& order) {
  const double best = values[static_cast<size_t>(order.front())], worst = values[static_cast<size_t>(order.back())];
  history_.push_back({best, median_of(values)});
  spread_ = std::isfinite(worst) ? worst - best : kInfinity;
  if (!(best < best_value_)) return;
  best_value_ = best;
  best_point_ = mean_ + step_ * y;
  best_generation_ = generations();
}

void CmaEs::update(const at::Tensor& z, const at::Tensor& y) {
  const CmaEsConstants& c = constants_;
  const at::Tensor parents = tensor_of(c.weights).narrow(0, 0, c.parents);
  const at::Tensor mean_y = parents.matmul(y.narrow(0, 0, c.parents));  // [n]
  const at::Tensor mean_z = parents.matmul(z.narrow(0, 0, c.parents));  // [n]
  mean_ = mean_ + step_ * mean_y;
  step_path_ = (1 - c.step_rate) * step_path_ + std::sqrt(c.step_rate * (2 - c.step_rate) * c.effective) * mean_z;
  const double norm = step_path_.norm().item<double>();
  const auto n = static_cast<double>(mean_.size(0));
  const double unbiased = norm / std::sqrt(1 - std::pow(1 - c.step_rate, 2.0 * static_cast<double>(generations())));
  const bool stalled = unbiased >= (1.4 + 2 / (n + 1)) * c.expected_norm;  // h_σ = 0
  path_ = (1 - c.path_rate) * path_;
  if (!stalled) path_ = path_ + std::sqrt(c.path_rate * (2 - c.path_rate) * c.effective) * mean_y;
  adapt_covariance(z, y, stalled);
  step_ *= std::exp(c.step_rate / c.step_damping * (norm / c.expected_norm - 1));
}

void CmaEs::adapt_covariance(const at::Tensor& z, const at::Tensor& y, bool stalled) {
  const CmaEsConstants& c = constants_;
  const auto n = static_cast<double>(mean_.size(0));
  const at::Tensor weights = tensor_of(c.weights);
  const at::Tensor lengths = z.square().sum(1);
  const at::Tensor scaled = at::where(weights.lt(0), weights * n / lengths.clamp_min(1e-300), weights);  // w°
  const double lost = stalled ? c.rank_one_rate * c.path_rate * (2 - c.path_rate) : 0.0;
  const double kept = 1 + lost - c.rank_one_rate - c.rank_mu_rate * weights.sum().item<double>();
  if (options_.separable) {
    covariance_ = kept * covariance_ + c.rank_one_rate * path_.square() + c.rank_mu_rate * scaled.matmul(y.square());
    return;
  }
  covariance_ = kept * covariance_ + c.rank_one_rate * path_.outer(path_) +
                c.rank_mu_rate * y.t().matmul(scaled.unsqueeze(1) * y);
  covariance_ = (covariance_ + covariance_.t()) / 2;  // rounding leaves the halves different
}

void CmaEs::take_root() {
  if (options_.separable) {
    root_ = scales_ = covariance_.clamp_min(0).sqrt();
    return;
  }
  const auto [values, vectors] = at::linalg_eigh(covariance_);
  scales_ = values.clamp_min(0).sqrt();
  root_ = (vectors * scales_).matmul(vectors.t());
}

std::string CmaEs::reason_to_stop() const {
  if (options_.target && best_value_ <= *options_.target) return "the target is reached";
  if (options_.spent + evaluations() + constants_.population > options_.evaluations)
    return fmt::format("the budget of {} evaluations is spent", options_.evaluations);
  if (options_.patience > 0 && generations() - best_generation_ >= options_.patience)
    return fmt::format("no better point in {} generations", options_.patience);
  std::string reason = reason_in_values();
  return reason.empty() ? reason_in_numbers() : reason;
}

std::string CmaEs::reason_in_values() const {
  const double per_generation = 30.0 * static_cast<double>(mean_.size(0)) / static_cast<double>(constants_.population);
  const auto window = static_cast<int64_t>(10 + std::ceil(per_generation));
  if (generations() < window) return "";
  double low = kInfinity, high = -kInfinity;
  for (auto i = history_.end() - window; i != history_.end(); ++i) {
    low = std::min(low, i->best);
    high = std::max(high, i->best);
  }
  if (low == high) return fmt::format("the best value of {} generations is the same", window);
  if (high - low < kEqualValues && spread_ < kEqualValues) return "values differ by less than 1e-12";
  const auto last = std::max(generations() / 5, static_cast<int64_t>(120 + per_generation));
  if (generations() < last) return "";
  std::vector<double> best, median;
  for (auto i = history_.end() - last; i != history_.end(); ++i) {
    best.push_back(i->best);
    median.push_back(i->median);
  }
  return is_stagnant(best) && is_stagnant(median) ? "the values no longer improve" : "";
}

std::string CmaEs::reason_in_numbers() const {
  const at::Tensor deviations = step_ * (options_.separable ? root_ : covariance_.diagonal().clamp_min(0).sqrt());
  const double longest = scales_.max().item<double>(), shortest = scales_.min().item<double>();
  if (!(shortest > 0 && longest / shortest < 1e7)) return "the condition of the covariance is above 1e14";
  if (step_ * longest > 1e4 * options_.step) return "the steps diverge: the first step is far too small";
  const double tiny = 1e-12 * options_.step;
  if (deviations.max().item<double>() < tiny && (step_ * path_).abs().max().item<double>() < tiny)
    return "steps are below 1e-12 of the first";
  if ((mean_ + 0.2 * deviations).eq(mean_).any().item<bool>()) return "steps no longer change the point";
  return "";
}

}  // namespace amalgam
