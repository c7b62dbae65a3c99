#include "solvers/methods/mats.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "solvers/merge_case.h"

namespace amalgam {
namespace {

using test::difference;
using test::MergeCase;

// Solved far enough that only rounding is left to compare.
const std::string kExact = "precision: float64, tolerance: 1e-13, iterations: 2000";

MergeOutcome mats(MergeCase& merge_case, const std::string& options) {
  return merge_case.merge("{method: mats, " + kExact + ", " + options + "}");
}

struct Setting {
  std::string normalise = "none";
  double lambda = 1.0, damping = 0.0;
};

/// The dense solve of Σ α kron(B, A) vec(W) = Σ α kron(B, A) vec(W_m), row-major: by the definitions, one expert at a
/// time.
at::Tensor reference(const MergeCase& merge_case, const std::string& name, const Setting& setting, int64_t group = 0,
                     int64_t groups = 1) {
  at::Tensor matrix, rhs;
  for (size_t m = 0; m < merge_case.experts.size(); ++m) {
    at::Tensor a = merge_case.a_of(m, name, group), b = merge_case.b_of(m, name, group);
    const double traces = (a.trace() * b.trace()).item<double>();
    if (setting.normalise == "rows") b = b * MergeCase::kExamples / MergeCase::kRows;
    if (setting.normalise == "trace") b = b / traces;
    if (setting.normalise == "outputs") b = b / b.trace();
    if (setting.normalise == "fisher") {
      at::Tensor fisher = merge_case.squared_gradients[m].at(name + ".weight").sum();
      if (!merge_case.layer(name).bias.empty())
        fisher = fisher + merge_case.squared_gradients[m].at(name + ".bias").sum();
      b = b * (fisher.item<double>() / MergeCase::kExamples / traces);
    }
    a = setting.lambda * a + (1 - setting.lambda) * at::diag(a.diag());
    b = setting.lambda * b + (1 - setting.lambda) * at::diag(b.diag());
    b = b + setting.damping * b.trace() / b.size(0) * at::eye(b.size(0), at::kDouble);
    const at::Tensor weight =
        MergeCase::matrix(merge_case.experts[m], name).chunk(groups, 0)[static_cast<size_t>(group)];
    const at::Tensor product = at::kron(b.contiguous(), a.contiguous()) * merge_case.weights[m];
    const at::Tensor image = product.mv(weight.reshape({-1}));
    matrix = m == 0 ? product : matrix + product;
    rhs = m == 0 ? image : rhs + image;
  }
  const int64_t columns = merge_case.a_of(0, name, group).size(0);
  return at::linalg_solve(matrix, rhs).view({-1, columns});
}

MergeCase& three_tasks(MergeCase& merge_case, bool bias = true) {
  merge_case.add(test::linear("fc", 4, 6, bias));
  merge_case.draw({"a", "b", "c"});
  merge_case.data[1]["fc"].gradients.mul_(2.0);
  merge_case.data[2]["fc"].inputs.mul_(0.5);
  merge_case.weights = {1.0, 0.5, 2.0};
  return merge_case;
}

TEST(Mats, SolvesTheMatchingEquationsUnderEveryNormalisation) {
  for (const bool bias : {false, true}) {
    MergeCase merge_case;
    three_tasks(merge_case, bias).build();
    for (const char* normalise : {"none", "rows", "trace", "outputs", "fisher"})
      for (const double lambda : {1.0, 0.7})
        for (const double damping : {0.0, 1.0}) {
          SCOPED_TRACE(fmt::format("{}, off_diagonal {}, damping {}, bias {}", normalise, lambda, damping, bias));
          const auto outcome =
              mats(merge_case, fmt::format("normalise: {}, off_diagonal: {}, damping: {}", normalise, lambda, damping));
          EXPECT_TRUE(outcome.report.layers.at(0).converged) << outcome.report.layers[0].why;
          EXPECT_LE(difference(MergeCase::matrix(outcome.merged, "fc"),
                               reference(merge_case, "fc", {normalise, lambda, damping})),
                    1e-9);
        }
  }
}

TEST(Mats, DefaultsAreAsDocumented) {
  MergeCase merge_case;
  three_tasks(merge_case).build();
  const auto method = make_method("mats", {}, "merge");
  const YAML::Node options = method->write_options();
  EXPECT_EQ(options["factors"].as<std::string>(), "kronecker");
  EXPECT_EQ(options["off_diagonal"].as<double>(), 0.9);
  EXPECT_EQ(options["damping"].as<double>(), 0.1);
  EXPECT_EQ(options["normalise"].as<std::string>(), "trace");
  EXPECT_EQ(options["iterations"].as<int>(), 100);
  EXPECT_EQ(options["tolerance"].as<double>(), 1e-5);
  EXPECT_EQ(options["check_every"].as<int>(), 0);
  EXPECT_EQ(options["preconditioner"].as<std::string>(), "kronecker_trace");
  EXPECT_EQ(options["precision"].as<std::string>(), "float64");
  EXPECT_EQ(options["init"]["method"].as<std::string>(), "task_arithmetic");
  EXPECT_EQ(options["init"]["scale"].as<double>(), 0.3);
  // And they solve the system: the change from the base is about 0.1, its relative error the tolerance's.
  const auto outcome = merge_case.merge("mats");
  EXPECT_TRUE(outcome.report.layers.at(0).converged);
  EXPECT_LE(difference(MergeCase::matrix(outcome.merged, "fc"), reference(merge_case, "fc", {"trace", 0.9, 0.1})),
            1e-4);
}

TEST(Mats, ApproachesRegMeanWeighedByTracesAsDampingGrows) {
  MergeCase merge_case;
  three_tasks(merge_case).build();
  const auto regmean =
      MergeCase::matrix(merge_case.merge("{method: regmean, weights: gradient, ridge: 0}").merged, "fc");
  const auto distance = [&](double damping) {
    return difference(
        MergeCase::matrix(
            mats(merge_case, fmt::format("normalise: none, off_diagonal: 1, damping: {}", damping)).merged, "fc"),
        regmean);
  };
  EXPECT_GT(distance(0.0), 1e-3);
  EXPECT_LE(distance(1e3), 1e-3);
  EXPECT_LE(distance(1e6), 1e-6);
}

TEST(Mats, WithEqualOutputFactorsIsRegMean) {
  MergeCase merge_case;
  three_tasks(merge_case);
  for (auto& task : merge_case.data) task["fc"].gradients = merge_case.data[0]["fc"].gradients;
  merge_case.build();
  const auto regmean = MergeCase::matrix(merge_case.merge("{method: regmean, ridge: 0}").merged, "fc");
  EXPECT_LE(
      difference(MergeCase::matrix(mats(merge_case, "normalise: none, off_diagonal: 1, damping: 0.5").merged, "fc"),
                 regmean),
      1e-9);
}

TEST(Mats, WithEqualFactorsIsTheAverage) {
  MergeCase merge_case;
  three_tasks(merge_case);
  for (auto& task : merge_case.data) task = merge_case.data[0];
  merge_case.build();
  const auto average = merge_case.merge("average").merged;
  EXPECT_LE(difference(mats(merge_case, "normalise: none").merged.at("fc.weight"), average.at("fc.weight")), 1e-10);
}

TEST(Mats, OfCopiesOfOneExpertIsThatExpert) {
  MergeCase merge_case;
  three_tasks(merge_case);
  for (auto& expert : merge_case.experts) expert = merge_case.experts[0];
  merge_case.build();
  const at::Tensor expert = MergeCase::matrix(merge_case.experts[0], "fc");
  EXPECT_LE(difference(MergeCase::matrix(mats(merge_case, "damping: 0").merged, "fc"), expert), 1e-10);
  EXPECT_LE(difference(MergeCase::matrix(merge_case.merge("mats").merged, "fc"), expert), 1e-4);
}

TEST(Mats, SolvesEveryGroupOfAConvolution) {
  MergeCase merge_case;
  merge_case.add(test::convolution("conv", 6, 2, 2, 3, true));
  merge_case.draw({"a", "b"});
  merge_case.build();
  const at::Tensor merged = MergeCase::matrix(mats(merge_case, "normalise: trace, damping: 0.1").merged, "conv");
  for (int64_t group = 0; group < 3; ++group)
    EXPECT_LE(difference(merged.chunk(3, 0)[static_cast<size_t>(group)],
                         reference(merge_case, "conv", {"trace", 0.9, 0.1}, group, 3)),
              1e-9);
}

TEST(Mats, SolvesLayersTogetherAsItSolvesThemAlone) {
  MergeCase merge_case;
  merge_case.add(test::linear("one", 4, 6, true));
  merge_case.add(test::linear("two", 4, 6, true));
  merge_case.add(test::linear("three", 5, 6, true));
  merge_case.draw({"a", "b"});
  merge_case.build();
  const auto together = mats(merge_case, "damping: 0.5");
  ASSERT_EQ(together.report.layers.size(), 3);
  EXPECT_EQ(together.report.layers[1].layer, "two");
  merge_case.input.group_bytes = 1;
  const auto alone = mats(merge_case, "damping: 0.5");
  for (const char* layer : {"one", "two", "three"}) {
    EXPECT_LE(difference(MergeCase::matrix(together.merged, layer), MergeCase::matrix(alone.merged, layer)), 1e-11);
    EXPECT_LE(difference(MergeCase::matrix(alone.merged, layer), reference(merge_case, layer, {"trace", 0.9, 0.5})),
              1e-9);
  }
}

// --- Starts
// -------------------------------------------------------------------------------------------------------------

TEST(Mats, ReturnsItsStartAfterNoIterations) {
  MergeCase merge_case;
  three_tasks(merge_case).build();
  const auto start = [&](const std::string& init) {
    return merge_case.merge("{method: mats, precision: float64, iterations: 0, init: " + init + "}")
        .merged.at("fc.weight");
  };
  const auto weight = [&](const NamedTensors& tensors) { return tensors.at("fc.weight"); };
  EXPECT_LE(start("zero").abs().max().item<double>(), 1e-15);
  EXPECT_LE(difference(start("base"), weight(merge_case.base)), 1e-15);
  EXPECT_LE(difference(start("expert:b"), weight(merge_case.experts[1])), 1e-15);
  for (const char* method : {"average", "fisher", "regmean", "{method: task_arithmetic, scale: 0.7}"})
    EXPECT_LE(difference(start(method), weight(merge_case.merge(method).merged)), 1e-15) << method;
}

TEST(Mats, RefusesAStartThatIsNone) {
  MergeCase merge_case;
  three_tasks(merge_case).build();
  EXPECT_THROW(make_method(YAML::Load("{method: mats, init: averge}"), "merge"), InputError);
  EXPECT_THROW(make_method(YAML::Load("{method: mats, init: {method: average, except: [a]}}"), "merge"), InputError);
  EXPECT_THROW(make_method(YAML::Load("{method: mats, init: [a]}"), "merge"), InputError);
  EXPECT_THROW(merge_case.merge("{method: mats, init: 'expert:d'}"), InputError);
  merge_case.input.base = nullptr;
  EXPECT_THROW(merge_case.merge("mats"), InputError);
  EXPECT_NO_THROW(merge_case.merge("{method: mats, init: average}"));
}

TEST(Mats, KeepsItsStartWhereNoInputEverCame) {
  MergeCase merge_case;
  merge_case.add(test::linear("fc", 4, 6, true));
  merge_case.draw({"a", "b"});
  for (auto& task : merge_case.data) task["fc"].inputs.select(2, 1).zero_();
  merge_case.build();
  for (const char* preconditioner : {"none", "kronecker_trace"}) {
    const auto merged =
        mats(merge_case, fmt::format("init: 'expert:a', preconditioner: {}", preconditioner)).merged.at("fc.weight");
    EXPECT_LE(difference(merged.select(1, 1), merge_case.experts[0]["fc.weight"].select(1, 1)), 1e-14);
    EXPECT_GT(difference(merged.select(1, 0), merge_case.experts[0]["fc.weight"].select(1, 0)), 1e-3);
  }
}

// --- Who has no say
// -------------------------------------------------------------------------------------------------------

TEST(Mats, GivesAnExpertWithoutGradientsNoSay) {
  for (const char* normalise : {"none", "trace"}) {
    MergeCase merge_case;
    three_tasks(merge_case);
    merge_case.data[1]["fc"].gradients.zero_();
    merge_case.build();
    const auto outcome = mats(merge_case, fmt::format("normalise: {}", normalise));
    ASSERT_EQ(outcome.report.layers[0].notes.size(), 1);
    EXPECT_NE(outcome.report.layers[0].notes[0].find("'b' has no say"), std::string::npos);
    MergeCase without;
    three_tasks(without).weights[1] = 0.0;
    without.build();
    EXPECT_LE(difference(outcome.merged.at("fc.weight"),
                         mats(without, fmt::format("normalise: {}", normalise)).merged.at("fc.weight")),
              1e-9);
  }
}

TEST(Mats, AveragesALayerWhereNobodyHasASay) {
  MergeCase merge_case;
  three_tasks(merge_case);
  for (auto& task : merge_case.data) task["fc"].gradients.zero_();
  merge_case.build();
  const auto outcome = merge_case.merge("mats");
  EXPECT_LE(difference(outcome.merged.at("fc.weight"), merge_case.merge("average").merged.at("fc.weight")), 1e-6);
  EXPECT_EQ(outcome.report.layers[0].notes.back(), "averaged: no task has a say");
}

TEST(Mats, SolvesWithTinyGradientsInEveryPrecision) {
  MergeCase merge_case;
  three_tasks(merge_case);
  for (auto& task : merge_case.data) task["fc"].gradients.mul_(1e-12);
  merge_case.build();
  for (const char* precision : {"float32", "mixed", "float64"}) {
    const auto outcome =
        merge_case.merge(fmt::format("{{method: mats, normalise: none, damping: 1, precision: {}}}", precision));
    EXPECT_TRUE(outcome.report.layers[0].converged) << precision << ": " << outcome.report.layers[0].why;
    EXPECT_LE(difference(MergeCase::matrix(outcome.merged, "fc"), reference(merge_case, "fc", {"none", 0.9, 1.0})),
              1e-4)
        << precision;
  }
}

TEST(Mats, ScalesTheOffDiagonalElementsOfTheFactorsThatAreNamed) {
  MergeCase merge_case;
  three_tasks(merge_case).build();
  const auto merged = [&](const std::string& of) {
    return MergeCase::matrix(
        mats(merge_case, "normalise: none, damping: 1, off_diagonal: 0.3, off_diagonal_of: " + of).merged, "fc");
  };
  const auto expected = [&](double of_inputs, double of_outputs) {
    at::Tensor matrix, rhs;
    const auto scaled = [](const at::Tensor& factor, double lambda) {
      return lambda * factor + (1 - lambda) * at::diag(factor.diag());
    };
    for (size_t m = 0; m < 3; ++m) {
      const at::Tensor b = scaled(merge_case.b_of(m, "fc"), of_outputs);
      const at::Tensor damped = b + at::eye(b.size(0), at::kDouble) * b.diag().mean();
      const at::Tensor own = merge_case.weights[m] * at::kron(damped, scaled(merge_case.a_of(m, "fc"), of_inputs));
      const at::Tensor image = own.mv(MergeCase::matrix(merge_case.experts[m], "fc").flatten());
      matrix = m == 0 ? own : matrix + own;
      rhs = m == 0 ? image : rhs + image;
    }
    return at::linalg_solve(matrix, rhs);
  };
  EXPECT_LE(difference(merged("inputs").flatten(), expected(0.3, 1.0)), 1e-9);
  EXPECT_LE(difference(merged("outputs").flatten(), expected(1.0, 0.3)), 1e-9);
  EXPECT_LE(difference(merged("both").flatten(), expected(0.3, 0.3)), 1e-9);
}

TEST(Mats, NamesTheExpertAndTheLayerThatAreNotFinite) {
  MergeCase merge_case;
  three_tasks(merge_case);
  merge_case.experts[1]["fc.weight"][0][0] = INFINITY;
  merge_case.build();
  for (const char* method : {"mats", "regmean"}) {
    try {
      merge_case.merge(method);
      FAIL() << method;
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find("layer 'fc' of expert 'b'"), std::string::npos) << error.what();
    }
  }
}

TEST(Mats, RefusesAStatisticThatIsNotFinite) {
  MergeCase merge_case;
  three_tasks(merge_case);
  merge_case.data[2]["fc"].gradients[0][0][0] = NAN;
  merge_case.build();
  try {
    merge_case.merge("mats");
    FAIL();
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("task 'c', layer 'fc'"), std::string::npos) << error.what();
  }
}

TEST(Mats, ReportsIterationsResidualsAndTheCurve) {
  MergeCase merge_case;
  three_tasks(merge_case).build();
  const auto outcome = merge_case.merge("{method: mats, iterations: 4, tolerance: 0, check_every: 1}");
  ASSERT_EQ(outcome.report.layers.size(), 1);
  const LayerReport& report = outcome.report.layers[0];
  EXPECT_EQ(report.layer, "fc");
  EXPECT_EQ(report.solver, "conjugate gradients");
  EXPECT_EQ(report.iterations, 4);
  EXPECT_EQ(report.history.size(), 5);
  EXPECT_NEAR(report.residual, report.history.back(), 1e-5);
  EXPECT_FALSE(report.converged);
  EXPECT_EQ(report.why, "iteration limit");
}

TEST(Mats, KeepsOfTheStartWhatNoTaskSees) {
  // The worked example of docs/solvers.md: the second input is 0 in the data of both tasks.
  MergeCase merge_case;
  merge_case.add(test::linear("fc", 1, 2, false));
  merge_case.draw({"a", "b"});
  const auto row = [](double first, double second) { return at::tensor({first, second}, at::kDouble).view({1, 2}); };
  merge_case.base["fc.weight"] = row(1, 1);
  merge_case.experts[0]["fc.weight"] = row(2, 5);
  merge_case.experts[1]["fc.weight"] = row(4, -1);
  for (auto& task : merge_case.data) {
    task["fc"].inputs = at::zeros_like(task["fc"].inputs);
    task["fc"].inputs.select(2, 0).fill_(1.0);
  }
  merge_case.build();
  const std::vector<std::pair<std::string, at::Tensor>> expected{
      {"zero", row(3, 0)},
      {"base", row(3, 1)},
      {"average", row(3, 2)},
      {"{method: task_arithmetic, scale: 0.3}", row(3, 1.6)}};
  for (const auto& [init, merged] : expected)
    for (const char* solver :
         {"preconditioner: none", "preconditioner: two_term", "solver: direct", "precision: mixed"})
      EXPECT_LE(
          difference(merge_case.merge(fmt::format("{{method: mats, init: {}, {}, tolerance: 1e-9}}", init, solver))
                         .merged.at("fc.weight"),
                     merged),
          1e-6)
          << init << ", " << solver;
}

}  // namespace
}  // namespace amalgam
