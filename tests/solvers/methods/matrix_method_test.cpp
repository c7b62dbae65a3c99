#include "solvers/methods/matrix_method.h"

#include <gmock/gmock.h>

#include "expect_error.h"
#include "solvers/methods/spectral_case.h"

namespace amalgam {
namespace {

using test::difference;
using test::kEps64;
using test::MergeCase;

/// Gives a matrix 10 times the weighted sum, and a report with the rounding.
class TenTimes final : public MatrixMethod {
 protected:
  at::Tensor merge_changes(const std::vector<at::Tensor>& changes, const std::vector<double>& weights, double rounding,
                           LayerReport& report, const Checkpoint&) const override {
    EXPECT_EQ(changes.front().scalar_type(), at::kDouble);
    EXPECT_EQ(changes.front().dim(), 2);
    report.solver = "ten times";
    report.residual = rounding;
    return weighted_sum(weighted(changes, std::vector<double>(changes.size(), 10.0)), weights);
  }
};
const RegisterMethod<TenTimes> registered("test_ten_times", "ten times the sum", "nobody");

struct MatrixMethodCase : testing::Test {
  MergeCase merge_case;
  void build() {
    test::spectral_case(merge_case, {"a", "b", "c"});
    merge_case.weights = {1.0, 0.0, 3.0};
    merge_case.build();
  }
  at::Tensor ten_times(const std::string& name, double scale) const {
    return merge_case.base.at(name) +
           10 * scale * (weighted_change(merge_case, 0, name) + weighted_change(merge_case, 2, name));
  }
};

TEST_F(MatrixMethodCase, HandsOverTheChangesOfMatricesAndAveragesTheRest) {
  build();
  const auto merged = merge_case.merge("{method: test_ten_times, scale: 2}").merged;
  for (const char* name : {"tall", "wide", "column"})
    EXPECT_LE(difference(merged.at(name), ten_times(name, 2)), 64 * kEps64) << name;
  for (const char* name : {"vector", "kernel"}) {
    const at::Tensor twice = 2 * test::mean_of(merge_case, name) - merge_case.base.at(name);
    EXPECT_LE(difference(merged.at(name), twice), 16 * kEps64) << name;
  }
}

TEST_F(MatrixMethodCase, TakesKernelsOnRequest) {
  build();
  const auto merged = merge_case.merge("{method: test_ten_times, convolutions: matrix}").merged;
  EXPECT_LE(difference(merged.at("kernel"), ten_times("kernel", 1)), 64 * kEps64);
  EXPECT_LE(difference(merged.at("vector"), test::mean_of(merge_case, "vector")), 16 * kEps64);
}

TEST_F(MatrixMethodCase, ReportsWhatWasSolved) {
  build();
  const MergeReport report = merge_case.merge("test_ten_times").report;
  ASSERT_EQ(report.layers.size(), 3);
  EXPECT_EQ(report.layers[1].layer, "wide");
  EXPECT_EQ(report.layers[1].solver, "ten times");
  EXPECT_TRUE(merge_case.merge("iso_c").report.layers.empty());
}

TEST(MatrixMethod, KnowsHowLargeTheRoundingOfAnExpertIs) {
  for (const auto& [dtype, epsilon] : test::kStoredDtypes) {
    if (dtype == at::kDouble) continue;
    MergeCase merge_case;
    merge_case.parameter("p", {60, 40});
    merge_case.draw({"a"});
    merge_case.base["p"].select(1, 3).mul_(20);  // a column of outliers
    const at::Tensor exact = merge_case.base["p"];
    merge_case.store_as(dtype);
    merge_case.build();
    const at::Tensor errors = merge_case.base["p"].to(at::kDouble) - exact;
    const double largest = spectrum_of(errors).values[0].item<double>(),
                 estimate = merge_case.merge("test_ten_times").report.layers.at(0).residual;
    EXPECT_GT(estimate, largest) << dtype;
    EXPECT_LT(estimate, 4 * largest) << dtype;
  }
}

TEST_F(MatrixMethodCase, TakesAnEmptyMatrixForNone) {
  merge_case.parameter("nothing", {0, 4});
  build();
  EXPECT_EQ(merge_case.merge("iso_c").merged.at("nothing").numel(), 0);
}

TEST_F(MatrixMethodCase, RefusesValuesThatAreNotFiniteAndALackOfABase) {
  merge_case.parameter("bad", {2, 2});
  build();
  merge_case.experts[2]["bad"][0][1] = INFINITY;
  EXPECT_THAT(input_error_of([&] { merge_case.merge("test_ten_times"); }),
              testing::AllOf(testing::HasSubstr("'bad'"), testing::HasSubstr("'c'")));
  merge_case.experts[2]["bad"][0][1] = 0.0;
  merge_case.base["bad"][1][1] = NAN;
  EXPECT_THAT(input_error_of([&] { merge_case.merge("iso_c"); }),
              testing::AllOf(testing::HasSubstr("'bad'"), testing::HasSubstr("the base")));
  merge_case.input.base = nullptr;
  EXPECT_THAT(input_error_of([&] { merge_case.merge("test_ten_times"); }), testing::HasSubstr("base.model"));
}

}  // namespace
}  // namespace amalgam
