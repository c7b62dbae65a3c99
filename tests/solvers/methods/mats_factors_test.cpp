#include "solvers/methods/mats_factors.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "solvers/grouping.h"
#include "solvers/merge_case.h"

namespace amalgam {
namespace {

using test::difference;
using test::MergeCase;

const std::string kExact = "normalise: none, tolerance: 1e-13, iterations: 3000";

/// Two layers fed by one tensor and one fed by another, wide enough that shared factors are stored once.
void add_layers(MergeCase& merge_case, bool shared) {
  for (const char* name : {"query", "key", "other"}) {
    Layer layer = test::linear(name, 129, 130, true);
    if (shared && layer.name == "key") layer.input_of = "query";
    merge_case.add(layer);
  }
  merge_case.draw({"a", "b"});
  for (auto& task : merge_case.data) task["key"].inputs = task["query"].inputs;
  merge_case.build();
}

TEST(MatsSystem, StoresAFactorThatLayersShareOnce) {
  MergeCase shared, apart;
  add_layers(shared, true);
  add_layers(apart, false);
  const std::string mats = "{method: mats, tolerance: 1e-11, iterations: 500}";
  const auto one = shared.merge(mats), other = apart.merge(mats);
  for (const char* name : {"query.weight", "key.weight", "key.bias", "other.weight"})
    EXPECT_LE(difference(one.merged.at(name), other.merged.at(name)), 1e-8) << name;

  const auto method = make_method(YAML::Load("mats"), "");
  const Grouping grouping = form_groups(*method, shared.input);
  ASSERT_EQ(grouping.groups.size(), 1);
  const MatsSystem system(shared.input, grouping.groups[0].layers, {}, [] {});
  EXPECT_EQ(system.stored_inputs(), 2);
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
  const auto outcome = merge_case.merge("{method: mats, factors: available, damping: 0, " + kExact + "}");
  const at::Tensor diagonal = at::cat({merge_case.squared_gradients[2].at("fc.weight"),
                                       merge_case.squared_gradients[2].at("fc.bias").unsqueeze(1)},
                                      1) /
                              MergeCase::kExamples;
  const std::vector<at::Tensor> known{at::kron(merge_case.b_of(0, "fc"), merge_case.a_of(0, "fc")),
                                      at::kron(at::eye(4, at::kDouble), merge_case.a_of(1, "fc")),
                                      at::diag(diagonal.flatten())};
  at::Tensor matrix = at::zeros_like(known[0]), rhs = at::zeros({24}, at::kDouble);
  for (size_t m = 0; m < 3; ++m) {
    matrix += known[m];
    rhs += known[m].mv(flat(merge_case, m, "fc"));
  }
  EXPECT_TRUE(outcome.report.layers[0].converged) << outcome.report.layers[0].why;
  EXPECT_LE(difference(MergeCase::matrix(outcome.merged, "fc").flatten(), at::linalg_solve(matrix, rhs)), 1e-8);
  EXPECT_EQ(outcome.report.layers[0].diagnostics->effective_rank[2], 0.0) << "a diagonal has no Gram matrix";
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
