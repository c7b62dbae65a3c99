#include "solvers/methods/cma_es_merging.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <optional>

#include "core/error.h"
#include "solvers/search/cma_es.h"

namespace amalgam {
namespace {

const RegisterMethod<CmaEsMerging> registered("cma_es",
                                              "coefficients by block or parameter of the best score on val, by CMA-ES",
                                              "Hansen 2016 (CMA-ES); Akiba et al. 2024");

std::vector<double> numbers_of(const NamedTensors& state, const std::string& name) {
  const auto found = state.find(name);
  require_input(found != state.end() && found->second.dim() == 1 && found->second.scalar_type() == at::kDouble,
                "the state of the search has no '{}'", name);
  const at::Tensor values = found->second.contiguous();
  return {values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel()};
}

/// CMA-ES on the score; a step is an evaluation, the first one of the start.
class ScoreSearch final : public CoefficientSearch {
 public:
  ScoreSearch(const MergeInput& input, const TaskVectorSum& vectors, const at::Tensor& start,
              const CmaEsOptions& options)
      : input_(input),
        vectors_(vectors),
        start_(start),
        options_(options),
        search_(start.flatten(), options, input.seed) {
    for (const ExpertInput& expert : input.experts) tasks_.push_back(expert.task);
    require_input(options.evaluations > search_.constants().population,
                  "evaluations: {} coefficients are searched for by {} points a generation; give at least {}",
                  start.numel(), search_.constants().population, search_.constants().population + 1);
  }

  bool is_done() const override { return !start_score_.empty() && !search_.why_stopped().empty(); }
  int64_t steps_done() const override { return std::ssize(start_score_) + search_.evaluations() + std::ssize(told_); }
  int64_t most_steps() const override { return options_.evaluations; }
  std::string note() const override {
    return start_score_.empty()
               ? ""
               : fmt::format("best {:.4f}", best_is_start() ? start_score_[0] : mean_of(search_.best_value()));
  }

  void step(const Checkpoint& checkpoint) override {
    if (start_score_.empty()) {
      start_score_ = {score(start_, checkpoint)};
      return;
    }
    const at::Tensor point = search_.ask()[std::ssize(told_)];
    const double mean = score(point.reshape(start_.sizes()), checkpoint);
    told_.push_back(lower_is_better_ ? mean : -mean);
    if (std::ssize(told_) < search_.constants().population) return;
    search_.tell(told_);
    told_.clear();
  }

  at::Tensor coefficients() const override {
    return best_is_start() ? start_ : search_.best_point().reshape(start_.sizes());
  }

  SearchReport report() const override {
    SearchReport report;
    report.measure = "score on val";
    report.unit = "evaluations";
    report.lower_is_better = lower_is_better_;
    report.curve.push_back({1, start_score_[0]});
    for (const CmaEsGeneration& generation : search_.history())
      report.curve.push_back({report.curve.back().spent + search_.constants().population, mean_of(generation.best)});
    report.why = search_.why_stopped();
    report.val_looks = steps_done();
    return report;
  }

  NamedTensors state() const override {
    NamedTensors state = search_.state();
    state["start_score"] = at::tensor(start_score_, at::kDouble);
    state["told"] = at::tensor(told_, at::kDouble);
    state["lower_is_better"] = at::full({1}, lower_is_better_ ? 1.0 : 0.0, at::kDouble);
    return state;
  }

  void resume(const NamedTensors& state) override {
    const std::vector<double> start_score = numbers_of(state, "start_score"), told = numbers_of(state, "told"),
                              lower = numbers_of(state, "lower_is_better");
    CmaEs search(state, options_, input_.seed);
    require_input(search.mean().numel() == start_.numel() && start_score.size() <= 1 && lower.size() == 1 &&
                      std::ssize(told) < search.constants().population,
                  "the state is of another search");
    search_ = std::move(search);
    start_score_ = start_score;
    told_ = told;
    lower_is_better_ = lower[0] != 0;
  }

 private:
  double score(const at::Tensor& coefficients, const Checkpoint& checkpoint) {
    const ProbeScore found = input_.probe->score(tasks_, vectors_.model(coefficients), checkpoint);
    lower_is_better_ = found.lower_is_better;
    return found.mean;
  }
  double mean_of(double minimised) const { return lower_is_better_ ? minimised : -minimised; }
  bool best_is_start() const {
    if (start_score_.empty() || search_.generations() == 0) return true;
    const double start = lower_is_better_ ? start_score_[0] : -start_score_[0];
    return !(search_.best_value() < start) && !std::isnan(start);
  }

  const MergeInput& input_;
  const TaskVectorSum& vectors_;
  std::vector<std::string> tasks_;
  at::Tensor start_;  // [groups, tasks]
  CmaEsOptions options_;
  CmaEs search_;
  std::vector<double> start_score_, told_;  // one number, once there is one; values of this generation so far
  bool lower_is_better_ = false;
};

}  // namespace

MethodRequirements CmaEsMerging::requirements() const {
  return {.base = true, .negative_weights = true, .val_scores = true};
}

void CmaEsMerging::declare_options(OptionSet& set) {
  CoefficientMethod::declare_options(set);
  set.integer("evaluations", evaluations_, {2, 1e9},
              "the budget: merged models that are scored on val, the start's too");
  set.real("step", step_, {1e-6, 1e3}, "standard deviation of the first points around the start");
  set.integer("population", population_, {0, 1e6}, "points a generation; 0: 4 + ⌊3 ln n⌋ for n coefficients");
  set.choice("covariance", covariance_, {"full", "diagonal"},
             "what is learned of the n coefficients: n², or n numbers");
  set.integer("patience", patience_, {0, 1e9}, "ends after so many generations without a better point; 0: never");
}

void CmaEsMerging::configure(const std::string& where) {
  require_input(population_ == 0 || population_ >= 3,
                "{}.population: {} points cannot be ranked; give 0, or at least 3", where, population_);
  const int64_t points = population_ > 0 ? population_ : cma_es_constants(1, 0, false).population;
  require_input(evaluations_ > points,
                "{}.evaluations: {} are not enough for the start and one generation, which has {} points or more; give "
                "at least {}",
                where, evaluations_, points, points + 1);
}

std::unique_ptr<CoefficientSearch> CmaEsMerging::begin(const MergeInput& input, const TaskVectorSum& vectors,
                                                       const at::Tensor& start) const {
  CmaEsOptions options;
  options.population = population_;
  options.step = step_;
  options.separable = covariance_ == "diagonal";
  options.evaluations = evaluations_;
  options.spent = 1;  // by the start
  options.patience = patience_;
  return std::make_unique<ScoreSearch>(input, vectors, start, options);
}

}  // namespace amalgam
