#include "solvers/methods/mats_factors.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cmath>

#include "core/error.h"
#include "expect_error.h"
#include "solvers/grouping.h"
#include "solvers/merge_case.h"

namespace amalgam {
namespace {

using test::difference;
using test::MergeCase;

const std::string kExact = "normalise: none, off_diagonal: 1, tolerance: 1e-13, iterations: 3000";

/// Two layers fed by one tensor, wide enough that shared factors are stored once.
const std::vector<Layer> kFedAlike = {test::linear("query", 129, 130, true), test::linear("key", 129, 130, true)};

/// @param shared  whether it is known that "key" is fed what "query" is
void add_layers(MergeCase& merge_case, const std::vector<Layer>& layers, bool shared) {
  for (Layer layer : layers) {
    if (shared && layer.name == "key") layer.input_of = "query";
    merge_case.add(layer);
  }
  merge_case.draw({"a", "b"});
  for (auto& task : merge_case.data) task["key"].inputs = task["query"].inputs;
  merge_case.build();
}

/// The layers are merged as if nobody knew that two are fed alike, from so many A an expert.
void expect_stored_inputs(const std::vector<Layer>& layers, int64_t stored) {
  MergeCase shared, apart;
  add_layers(shared, layers, true);
  add_layers(apart, layers, false);
  const std::string mats = "{method: mats, tolerance: 1e-11, iterations: 500}";
  const auto one = shared.merge(mats), other = apart.merge(mats);
  for (const auto& [name, tensor] : other.merged) EXPECT_LE(difference(one.merged.at(name), tensor), 1e-8) << name;

  const auto method = make_method(YAML::Load("mats"), "");
  const Grouping grouping = form_groups(*method, shared.input);
  ASSERT_EQ(grouping.groups.size(), 1);
  const MatsSystem system(shared.input, grouping.groups[0].layers, {}, [] {});
  EXPECT_EQ(system.stored_inputs(), stored);
}

TEST(MatsSystem, StoresAFactorThatLayersShareOnce) {
  expect_stored_inputs({kFedAlike[0], kFedAlike[1], test::linear("other", 129, 130, true)}, 2);
}

TEST(MatsSystem, StoresEveryFactorBesideALayerOfSeveralGroups) {
  const Layer grouped = test::convolution("grouped", 258, 130, 1, 2, true);  // two matrices of the others' shape
  expect_stored_inputs({grouped, kFedAlike[0], kFedAlike[1]}, 4);
  expect_stored_inputs({kFedAlike[0], kFedAlike[1], grouped}, 4);
}

/// Vectorised [weight | bias] of an expert.
at::Tensor flat(const MergeCase& merge_case, size_t m, const std::string& name) {
  return MergeCase::matrix(merge_case.experts[m], name).flatten();
}

TEST(MatsSystem, TakesTheMostThatEachTaskKnows) {
  MergeCase merge_case;
  merge_case.add(test::linear("fc", 4, 5, true));
  merge_case.draw({"a", "b", "c"});
  merge_case.left_out_of[1] = {"fc/output_gram"};
  merge_case.left_out_of[2] = {"fc/output_gram", "fc/input_gram", "fc/input_sum", "fc/rows"};
  merge_case.build();
  const at::Tensor diagonal = at::cat({merge_case.squared_gradients[2].at("fc.weight"),
                                       merge_case.squared_gradients[2].at("fc.bias").unsqueeze(1)},
                                      1) /
                              MergeCase::kExamples;
  const auto damped = [](const at::Tensor& matrix, double damping) {
    return matrix + at::eye(matrix.size(0), at::kDouble) * (damping * matrix.diag().mean().item<double>());
  };
  for (const double damping : {0.0, 1.0}) {
    SCOPED_TRACE(damping);
    const auto outcome =
        merge_case.merge(fmt::format("{{method: mats, factors: available, damping: {}, {}}}", damping, kExact));
    const std::vector<at::Tensor> known{at::kron(damped(merge_case.b_of(0, "fc"), damping), merge_case.a_of(0, "fc")),
                                        at::kron(damped(at::eye(4, at::kDouble), damping), merge_case.a_of(1, "fc")),
                                        damped(at::diag(diagonal.flatten()), damping)};
    at::Tensor matrix = at::zeros_like(known[0]), rhs = at::zeros({24}, at::kDouble);
    for (size_t m = 0; m < 3; ++m) {
      matrix += known[m];
      rhs += known[m].mv(flat(merge_case, m, "fc"));
    }
    const LayerReport& report = outcome.report.layers[0];
    EXPECT_TRUE(report.converged) << report.why;
    EXPECT_LE(difference(MergeCase::matrix(outcome.merged, "fc").flatten(), at::linalg_solve(matrix, rhs)), 1e-8);
    EXPECT_TRUE(std::isnan(report.diagnostics->effective_rank[2])) << "a diagonal has no Gram matrix";
    EXPECT_TRUE(std::isnan(report.diagnostics->unseen)) << "nor is it known what a diagonal does not see";
  }
}

/// Three tasks whose gradients differ in size by far.
MergeCase& uneven(MergeCase& merge_case) {
  merge_case.add(test::linear("fc", 4, 5, true));
  merge_case.draw({"a", "b", "c"});
  merge_case.data[1]["fc"].gradients.mul_(100.0);
  merge_case.data[2]["fc"].gradients.mul_(0.01);
  merge_case.weights = {1.0, 2.0, 0.5};
  merge_case.build();
  return merge_case;
}

TEST(MatsSystem, IsRegMeanWhereAllOutputsAreOneOrDampedAway) {
  MergeCase merge_case;
  uneven(merge_case);
  const at::Tensor regmean = MergeCase::matrix(merge_case.merge("{method: regmean, ridge: 0}").merged, "fc");
  for (const char* options : {"pooling: 1, damping: 0", "pooling: 1, damping: 3", "damping: 1e9"}) {
    const auto merged = merge_case.merge(fmt::format(
        "{{method: mats, {}, off_diagonal: 1, tolerance: 1e-13, iterations: 3000, normalise: outputs}}", options));
    EXPECT_LE(difference(MergeCase::matrix(merged.merged, "fc"), regmean), 1e-8) << options;
  }
}

TEST(MatsSystem, PoolsThenShrinksThenDamps) {
  MergeCase merge_case;
  uneven(merge_case);
  const auto outcome = merge_case.merge(
      "{method: mats, normalise: outputs, pooling: 0.3, shrinkage: oas, off_diagonal: 1, damping: 0.5, tolerance: "
      "1e-13, iterations: "
      "3000}");
  const at::Tensor eye = at::eye(4, at::kDouble);
  at::Tensor common = at::zeros({4, 4}, at::kDouble), matrix, rhs;
  for (size_t m = 0; m < 3; ++m) {
    const at::Tensor b = merge_case.b_of(m, "fc");
    common += b / b.trace() * (merge_case.weights[m] / 3.5);
  }
  for (size_t m = 0; m < 3; ++m) {
    at::Tensor b = merge_case.b_of(m, "fc");
    b = 0.7 * b / b.trace() + 0.3 * common;
    const double square = b.mm(b).trace().item<double>(), samples = MergeCase::kExamples;
    const double rho = std::min(1.0, (0.5 * square + 1) / ((samples + 0.5) * (square - 0.25)));
    b = (1 - rho) * b + rho / 4 * eye;
    const at::Tensor known = at::kron(b + 0.5 / 4 * eye, merge_case.a_of(m, "fc")) * merge_case.weights[m];
    const at::Tensor image = known.mv(flat(merge_case, m, "fc"));
    matrix = m == 0 ? known : matrix + known;
    rhs = m == 0 ? image : rhs + image;
  }
  EXPECT_LE(difference(MergeCase::matrix(outcome.merged, "fc").flatten(), at::linalg_solve(matrix, rhs)), 1e-8);
}

TEST(MatsSystem, LeavesALayerAsideWhoseRowsATaskDoesNotKnow) {
  MergeCase merge_case;
  merge_case.add(test::linear("fc", 4, 5, false));
  merge_case.draw({"a", "b"});
  merge_case.left_out_of[1] = {"fc/output_gram", "fc/input_gram", "fc/input_sum", "fc/rows"};
  merge_case.build();
  for (const char* normalise : {"rows", "outputs"}) {
    const auto outcome =
        merge_case.merge(fmt::format("{{method: mats, factors: available, normalise: {}}}", normalise));
    ASSERT_EQ(outcome.report.fallbacks.size(), 1);
    EXPECT_NE(outcome.report.fallbacks[0].why.find("task 'b' has none"), std::string::npos);
  }
}

TEST(MatsSystem, KeepsADeadInputUnseenWhereRoundingLeftAFactorIndefinite) {
  // The last input is 0 in the data of both tasks. In the first's, inputs 8 and 9 are the same, and rounding gave their
  // difference an energy of −3e-7 of the trace.
  MergeCase merge_case;
  merge_case.add(test::linear("fc", 2, 11, false));
  merge_case.draw({"a", "b"});
  for (auto& task : merge_case.data) task["fc"].inputs.select(2, 10).zero_();
  const at::Tensor inputs = merge_case.data[0]["fc"].inputs;
  inputs.select(2, 9).copy_(inputs.select(2, 8));
  const at::Tensor gram = merge_case.a_of(0, "fc") * MergeCase::kRows;
  at::Tensor difference_of_two = at::zeros({11}, at::kDouble);
  difference_of_two[8] = std::sqrt(0.5);
  difference_of_two[9] = -std::sqrt(0.5);
  merge_case.replaced[0]["fc/input_gram"] =
      gram - 3e-7 * gram.trace() * at::outer(difference_of_two, difference_of_two);
  merge_case.build();
  const auto outcome =
      merge_case.merge("{method: mats, off_diagonal: 1, init: base, tolerance: 1e-9, iterations: 1000}");
  ASSERT_EQ(outcome.report.layers[0].notes.size(), 1);
  EXPECT_NE(outcome.report.layers[0].notes[0].find("indefinite"), std::string::npos);
  EXPECT_LE(difference(outcome.merged.at("fc.weight").select(1, 10), merge_case.base.at("fc.weight").select(1, 10)),
            1e-12);
}

TEST(MatsSystem, SolvesAnOutputWithoutGradientsHoweverLittleItIsDamped) {
  MergeCase merge_case;
  merge_case.add(test::linear("fc", 4, 5, true));
  merge_case.draw({"a", "b"});
  for (auto& task : merge_case.data) task["fc"].gradients.select(2, 1).zero_();
  merge_case.build();
  const auto row = [](const NamedTensors& tensors) { return MergeCase::matrix(tensors, "fc")[1]; };
  const auto damped = [&](double damping) {
    return row(merge_case
                   .merge(fmt::format("{{method: mats, normalise: outputs, off_diagonal: 1, damping: {}, init: base, "
                                      "solver: direct}}",
                                      damping))
                   .merged);
  };
  // All tasks add δ/4 to that output alike, so that it is RegMean's; undamped it stays at the start.
  EXPECT_LE(difference(damped(1e-7), row(merge_case.merge("{method: regmean, ridge: 0}").merged)), 1e-6);
  EXPECT_LE(difference(damped(0.0), row(merge_case.base)), 1e-9);
}

TEST(MatsSystem, DoesNotAskWhatATaskWithoutAWeightKnows) {
  const auto merged = [](const std::set<std::string>& left_out) {
    MergeCase merge_case;
    merge_case.add(test::linear("fc", 4, 5, true));
    merge_case.draw({"a", "b", "c"});
    for (auto& task : merge_case.data) task["fc"].inputs.select(2, 1).zero_();
    merge_case.weights[2] = 0.0;
    merge_case.left_out_of[2] = left_out;
    merge_case.build();
    return merge_case.merge("{method: mats, factors: available, solver: direct, init: base}");
  };
  const auto all = merged({}), diagonal = merged({"fc/output_gram", "fc/input_gram", "fc/input_sum", "fc/rows"});
  EXPECT_LE(difference(diagonal.merged.at("fc.weight"), all.merged.at("fc.weight")), 1e-12);
  EXPECT_GT(all.report.layers[0].diagnostics->unseen, 1e-3) << "of the input that is always zero";
  EXPECT_DOUBLE_EQ(diagonal.report.layers[0].diagnostics->unseen, all.report.layers[0].diagnostics->unseen);
}

TEST(MatsSystem, LeavesALayerAsideOfWhichATaskKnowsNothing) {
  MergeCase merge_case;
  merge_case.add(test::linear("fc", 4, 5, false));
  merge_case.draw({"a", "b"});
  merge_case.left_out_of[1] = {"fc/output_gram", "fc/input_gram", "fc/input_sum", "fc/rows",
                               "fc.weight/squared_gradient"};
  merge_case.build();
  const auto outcome = merge_case.merge("{method: mats, factors: available}");
  ASSERT_EQ(outcome.report.fallbacks.size(), 1);
  EXPECT_NE(outcome.report.fallbacks[0].why.find("task 'b' has no statistic"), std::string::npos);
}

TEST(MatsSystem, IsSolvedInClosedFormForTwoExperts) {
  MergeCase merge_case;
  merge_case.add(test::linear("fc", 6, 5, true));
  merge_case.draw({"a", "b"});
  merge_case.build();
  const auto direct = merge_case.merge("{method: mats, solver: direct}"),
             iterated = merge_case.merge("{method: mats, tolerance: 1e-12, iterations: 1000}");
  EXPECT_LE(difference(direct.merged.at("fc.weight"), iterated.merged.at("fc.weight")), 1e-9);
  EXPECT_EQ(direct.report.layers[0].solver, "closed form");
  EXPECT_TRUE(direct.report.layers[0].converged);
}

TEST(MatsSystem, RefusesTheClosedFormForThreeExperts) {
  MergeCase merge_case;
  merge_case.add(test::linear("fc", 3, 4, true));
  merge_case.draw({"a", "b", "c"});
  merge_case.build();
  EXPECT_THROW(merge_case.merge("{method: mats, solver: direct}"), InputError);
  merge_case.input.experts[1].weight = 0.0;
  EXPECT_TRUE(merge_case.merge("{method: mats, solver: direct}").report.layers[0].converged);
}

TEST(MatsSystem, RefusesOptionsThatTheClosedFormHasNoUseFor) {
  const auto make = [](const std::string& options) {
    make_method(YAML::Load(fmt::format("{{method: mats, solver: direct, {}}}", options)), "merge");
  };
  for (const auto& [option, value] : std::vector<std::pair<std::string, std::string>>{{"precision", "mixed"},
                                                                                      {"precision", "float32"},
                                                                                      {"preconditioner", "two_term"},
                                                                                      {"iterations", "50"},
                                                                                      {"time_limit", "1"},
                                                                                      {"check_every", "5"}})
    EXPECT_THAT(input_error_of([&, entry = option + ": " + value] { make(entry); }),
                testing::HasSubstr("leave `" + option + "` out"));
  EXPECT_NO_THROW(make("tolerance: 1e-8, iterations: 100, preconditioner: kronecker_trace"));
}

TEST(MatsSystem, IsSolvedInMixedPrecisionToAFloat64Residual) {
  MergeCase merge_case;
  merge_case.add(test::linear("fc", 6, 5, true));
  merge_case.draw({"a", "b", "c"});
  merge_case.build();
  const auto mixed = merge_case.merge("{method: mats, precision: mixed, tolerance: 1e-11, iterations: 500}"),
             exact = merge_case.merge("{method: mats, tolerance: 1e-12, iterations: 500}");
  EXPECT_TRUE(mixed.report.layers[0].converged) << mixed.report.layers[0].why;
  EXPECT_LE(mixed.report.layers[0].residual, 1e-11);
  EXPECT_LE(difference(mixed.merged.at("fc.weight"), exact.merged.at("fc.weight")), 1e-9);
}

}  // namespace
}  // namespace amalgam
