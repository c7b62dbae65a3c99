#include "solvers/methods/data_free.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "expect_error.h"
#include "solvers/linear/spectrum.h"
#include "solvers/methods/spectral_case.h"

namespace amalgam {
namespace {

using test::difference;
using test::kEps64;
using test::MergeCase;

/// θ0 + (Σ w d dᵀd)(Σ w dᵀd + ρ I)⁻¹, by an inverse.
at::Tensor reference(const MergeCase& merge_case, const std::string& name, bool by_norm, double ridge) {
  at::Tensor gram, rhs;
  for (size_t m = 0; m < merge_case.experts.size(); ++m) {
    const at::Tensor d = merge_case.experts[m].at(name).to(at::kDouble) - merge_case.base.at(name).to(at::kDouble);
    const at::Tensor own =
        d.t().mm(d) * merge_case.weights[m] / (by_norm ? d.square().sum() : at::ones({}, at::kDouble));
    gram = m == 0 ? own : gram + own;
    rhs = m == 0 ? d.mm(own) : rhs + d.mm(own);
  }
  const at::Tensor identity = at::eye(gram.size(0), at::kDouble);
  return merge_case.base.at(name).to(at::kDouble) +
         rhs.mm(at::linalg_inv(gram + ridge * gram.diagonal().mean() * identity));
}

TEST(DataFree, MatchesTheNormalEquationsInEveryDtype) {
  for (const auto& [dtype, epsilon] : test::kStoredDtypes) {
    MergeCase merge_case;
    test::spectral_case(merge_case, {"a", "b", "c"});
    merge_case.store_as(dtype);
    merge_case.weights = {1.0, 2.0, 0.5};
    merge_case.build();
    for (const bool by_norm : {true, false})
      for (const double ridge : {0.0, 1e-6, 0.1}) {
        const auto merged =
            merge_case
                .merge(fmt::format("{{method: data_free, normalise: {}, ridge: {}}}", by_norm ? "norm" : "none", ridge))
                .merged;
        for (const char* name : {"tall", "wide", "column"})
          EXPECT_LE(difference(merged.at(name), reference(merge_case, name, by_norm, ridge)), 1e-11 + 2 * epsilon)
              << name << dtype;
      }
  }
}

TEST(DataFree, OfOneExpertOrOfCopiesIsThatExpert) {
  for (const size_t experts : {1, 3}) {
    MergeCase merge_case;
    test::spectral_case(merge_case, {"a", "b", "c"});
    for (auto& expert : merge_case.experts) expert = merge_case.experts[0];
    merge_case.build();
    merge_case.input.experts.resize(experts);
    const auto merged = merge_case.merge("{method: data_free, ridge: 0}").merged;
    for (const auto& [name, tensor] : merge_case.experts[0])
      EXPECT_LE(difference(merged.at(name), tensor), 1e-12) << name;
  }
}

TEST(DataFree, AddsChangesThatAnswerToOrthogonalInputs) {
  MergeCase merge_case;
  merge_case.parameter("p", {3, 6});
  merge_case.draw({"a", "b"});
  const at::Tensor inputs = spectrum_of(merge_case.random.normal({4, 6})).right;  // orthonormal rows
  std::vector<at::Tensor> changes;
  for (int64_t m = 0; m < 2; ++m) {
    changes.push_back(merge_case.random.normal({3, 2}).mm(inputs.narrow(0, 2 * m, 2)));
    merge_case.experts[static_cast<size_t>(m)]["p"] = merge_case.base["p"] + changes.back();
  }
  merge_case.build();
  EXPECT_LE(difference(merge_case.merge("{method: data_free, ridge: 0}").merged.at("p"),
                       merge_case.base["p"] + changes[0] + changes[1]),
            1e-12);
}

TEST(DataFree, DoesWithoutAnExpertThatChangedNothing) {
  MergeCase merge_case;
  merge_case.parameter("p", {3, 4});
  merge_case.parameter("q", {3, 4});
  merge_case.draw({"a", "b"});
  merge_case.experts[1] = merge_case.base;
  merge_case.experts[0]["q"] = merge_case.base["q"];
  merge_case.build();
  const auto merged = merge_case.merge("{method: data_free, ridge: 0}").merged;
  EXPECT_LE(difference(merged.at("p"), merge_case.experts[0]["p"]), 1e-13);
  EXPECT_TRUE(at::equal(merged.at("q"), merge_case.base["q"]));
}

/// The same for `form: mats`, from the whole Kronecker products, by a least-squares solve.
at::Tensor reference_of_both(const MergeCase& merge_case, const std::string& name, double damping) {
  at::Tensor system, rhs;
  const at::Tensor base = merge_case.base.at(name).to(at::kDouble);
  for (size_t m = 0; m < merge_case.experts.size(); ++m) {
    const at::Tensor d = merge_case.experts[m].at(name).to(at::kDouble) - base;
    const at::Tensor b = d.mm(d.t()), a = d.t().mm(d), rows = at::eye(d.size(0), at::kDouble);
    const at::Tensor k = at::kron(b + damping * b.trace() / static_cast<double>(d.size(0)) * rows, a) *
                         (merge_case.weights[m] / (a.trace() * b.trace()));
    system = m == 0 ? k : system + k;
    const at::Tensor product = k.mv(d.flatten());
    rhs = m == 0 ? product : rhs + product;
  }
  return base + at::linalg_pinv(system, 1e-12, true).mv(rhs).view_as(base);
}

TEST(DataFree, OfBothFactorsMatchesTheWholeSystem) {
  MergeCase merge_case;
  merge_case.parameter("tall", {7, 3});
  merge_case.parameter("wide", {3, 5});
  merge_case.draw({"a", "b", "c"});
  merge_case.weights = {1.0, 2.0, 0.5};
  merge_case.build();
  for (const double damping : {0.1, 1.0, 10.0}) {
    const auto outcome = merge_case.merge(
        fmt::format("{{method: data_free, form: mats, damping: {}, iterations: 500, tolerance: 1e-12}}", damping));
    for (const char* name : {"tall", "wide"})
      EXPECT_LE(difference(outcome.merged.at(name), reference_of_both(merge_case, name, damping)), 1e-8)
          << name << damping;
    for (const auto& layer : outcome.report.layers) EXPECT_TRUE(layer.converged) << layer.why;
  }
}

TEST(DataFree, OfBothFactorsComesToThoseOfTheInputsWithDampingWithoutBound) {
  MergeCase merge_case;
  merge_case.parameter("p", {4, 4});
  merge_case.draw({"a", "b"});
  merge_case.build();
  const auto one = merge_case.merge("{method: data_free, ridge: 0}").merged.at("p");
  const auto both = merge_case.merge("{method: data_free, form: mats, damping: 1e8, iterations: 500, tolerance: 1e-12}")
                        .merged.at("p");
  EXPECT_LE(difference(one, both), 1e-6);
}

TEST(DataFree, OfBothFactorsOfCopiesIsThatExpert) {
  MergeCase merge_case;
  merge_case.parameter("p", {5, 4});
  merge_case.draw({"a", "b"});
  merge_case.experts[1] = merge_case.experts[0];
  merge_case.build();
  EXPECT_LE(
      difference(merge_case.merge("{method: data_free, form: mats, tolerance: 1e-12, iterations: 500}").merged.at("p"),
                 merge_case.experts[0]["p"]),
      1e-9);
}

TEST(DataFree, RefusesWhatItsFormHasNoUseFor) {
  const auto make = [](const std::string& form, const std::string& option) {
    make_method(YAML::Load(fmt::format("{{method: data_free, form: {}, {}}}", form, option)), "merge");
  };
  for (const std::string option :
       {"iterations: 50", "tolerance: 1e-8", "time_limit: 1", "check_every: 5", "damping: 0.1", "ridge: 0.1"}) {
    const bool of_mats = option != "ridge: 0.1";
    const std::string useful = of_mats ? "mats" : "regmean", useless = of_mats ? "regmean" : "mats";
    EXPECT_THAT(input_error_of([&] { make(useless, option); }),
                testing::HasSubstr("leave `" + option.substr(0, option.find(':')) + "` out, or take `form: " + useful));
    EXPECT_NO_THROW(make(useful, option));
  }
}

TEST(DataFree, ReportsTheResidualWithoutRidge) {
  MergeCase merge_case;
  merge_case.parameter("p", {7, 5});
  merge_case.draw({"a", "b"});
  merge_case.build();
  const auto residual = [&](const std::string& ridge) {
    return merge_case.merge("{method: data_free, ridge: " + ridge + "}").report.layers.at(0).residual;
  };
  EXPECT_LE(residual("0"), 1e-13);
  EXPECT_GT(residual("0.1"), 1e-3);
}

}  // namespace
}  // namespace amalgam
