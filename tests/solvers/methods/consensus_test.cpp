#include "solvers/methods/consensus.h"

#include <gmock/gmock.h>

#include "expect_error.h"
#include "solvers/vector_case.h"

namespace amalgam {
namespace {

using test::Vector;
using test::VectorCase;
using testing::HasSubstr;

Vector naive(const VectorCase& vectors, size_t agreeing, const Vector& mask_scales, double scale) {
  const std::vector<Vector> changes = vectors.changes();
  Vector merged(changes.front().size(), 0.0);
  for (size_t i = 0; i < merged.size(); ++i) {
    double sum = 0;
    for (size_t m = 0; m < changes.size(); ++m) sum += vectors.weights()[m] * changes[m][i];
    size_t votes = 0;
    for (size_t m = 0; m < changes.size(); ++m) {
      const double own = vectors.weights()[m] * changes[m][i];
      if (std::abs(own) > mask_scales[m] * std::abs(sum - own)) ++votes;
    }
    if (votes >= agreeing) merged[i] = scale * sum;
  }
  return merged;
}

TEST(Consensus, KeepsWhatSeveralTasksNeed) {
  for (const at::ScalarType stored : test::kStoredTypes) {
    VectorCase vectors({"a", "b", "c"}, stored);
    vectors.weigh({1.0, 0.5, 2.0}).build();
    vectors.expect_change("consensus", naive(vectors, 2, {0.4, 0.4, 0.4}, 0.3));
    vectors.expect_change("{method: consensus, agreeing: 3, mask_scale: 0.2, scale: 1}",
                          naive(vectors, 3, {0.2, 0.2, 0.2}, 1.0));
    vectors.expect_change("{method: consensus, agreeing: 1, mask_scale: [0.2, 0.6, 5], scale: 0.5}",
                          naive(vectors, 1, {0.2, 0.6, 5.0}, 0.5));
  }
}

TEST(Consensus, OfNoAgreementIsTaskArithmetic) {
  VectorCase vectors({"a", "b", "c"});
  vectors.weigh({1.0, 0.5, 2.0}).build();
  const auto arithmetic = VectorCase::whole(vectors.merge_case.merge("task_arithmetic").merged),
             consensus = VectorCase::whole(vectors.merge_case.merge("{method: consensus, agreeing: 0}").merged);
  for (size_t i = 0; i < arithmetic.size(); ++i) EXPECT_NEAR(consensus[i], arithmetic[i], 1e-15) << i;
}

TEST(Consensus, OfOneTaskIsItsExpert) {
  VectorCase vectors({"a"});
  vectors.build().expect_change("{method: consensus, scale: 1}", vectors.changes()[0]);
}

TEST(Consensus, OfTwoCopiesAddsThemBoth) {
  VectorCase vectors({"a", "b"});
  vectors.with_equal_experts().build();
  Vector expected = vectors.changes()[0];
  for (double& value : expected) value *= 0.6;
  vectors.expect_change("consensus", expected);  // |d| > 0.4 |d| everywhere
  vectors.expect_change("{method: consensus, mask_scale: 1}", Vector(expected.size(), 0.0));
}

TEST(Consensus, DoesNotCountATaskOfWeightZero) {
  VectorCase vectors({"a", "b"});
  vectors.weigh({1.0, 0.0}).build();
  vectors.expect_change("{method: consensus, agreeing: 2, mask_scale: [0.4, 9], scale: 1}", vectors.changes()[0]);
}

TEST(Consensus, RefusesWhatItCannotUse) {
  VectorCase vectors({"a", "b"});
  vectors.build();
  EXPECT_THAT(input_error_of([&] { vectors.merge_case.merge("{method: consensus, mask_scale: [1, 2, 3]}"); }),
              testing::AllOf(HasSubstr("mask_scale"), HasSubstr("3 values for 2 tasks")));
  EXPECT_THAT(input_error_of([&] { vectors.merge_case.merge("{method: consensus, mask_scale: []}"); }),
              HasSubstr("mask_scale"));
  EXPECT_THAT(input_error_of([&] { vectors.merge_case.merge("{method: consensus, agreeing: -1}"); }),
              HasSubstr("agreeing"));
  vectors.merge_case.input.base = nullptr;
  EXPECT_THAT(input_error_of([&] { vectors.merge_case.merge("consensus"); }), HasSubstr("base"));
}

}  // namespace
}  // namespace amalgam
