#include "solvers/methods/tall.h"

#include <gmock/gmock.h>

#include "core/task_parts.h"
#include "expect_error.h"
#include "solvers/vector_case.h"

namespace amalgam {
namespace {

using test::Vector;
using test::VectorCase;
using testing::HasSubstr;

/// Σ α_m d_m.
Vector naive_sum(const VectorCase& vectors) {
  const std::vector<Vector> changes = vectors.changes();
  Vector sum(changes.front().size(), 0.0);
  for (size_t i = 0; i < sum.size(); ++i)
    for (size_t m = 0; m < changes.size(); ++m) sum[i] += vectors.weights()[m] * changes[m][i];
  return sum;
}

/// What task m is to be.
Vector naive_task(const VectorCase& vectors, size_t m, double mask_scale, double scale) {
  const Vector sum = naive_sum(vectors), own = vectors.changes()[m];
  Vector model = VectorCase::whole(vectors.merge_case.base);
  for (size_t i = 0; i < model.size(); ++i) {
    const double share = vectors.weights()[m] * own[i];
    if (std::abs(share) > mask_scale * std::abs(sum[i] - share)) model[i] += scale * sum[i];
  }
  return model;
}

/// The task's model of an outcome.
Vector task_model(const MergeOutcome& outcome, const std::string& task) {
  const MemoryTensors shared(outcome.merged), parts(outcome.task_parts);
  check_parts(shared, parts, "outcome");
  NamedTensors tensors;
  for (const char* name : VectorCase::kNames) tensors[name] = with_part(shared, parts, task, name);
  return VectorCase::whole(tensors);
}

void expect_near(const Vector& found, const Vector& expected, double relative) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i)
    EXPECT_NEAR(found[i], expected[i], relative * (1.0 + std::abs(expected[i]))) << i;
}

TEST(Tall, GivesEachTaskTheSumWhereItsMaskIsSet) {
  for (const at::ScalarType stored : test::kStoredTypes) {
    VectorCase vectors({"a", "b", "c"}, stored);
    vectors.weigh({1.0, 0.5, 2.0}).build();
    const double rounding = stored == at::kBFloat16 ? 0x1p-8 : stored == at::kFloat ? 0x1p-23 : 0x1p-50;
    const Vector scales = {0.2, 0.6, 5.0};
    const MergeOutcome outcome = vectors.merge_case.merge("{method: tall, mask_scale: [0.2, 0.6, 5], scale: 0.7}"),
                       plain = vectors.merge_case.merge("tall");
    for (size_t m = 0; m < 3; ++m) {
      SCOPED_TRACE(fmt::format("{} task {}", c10::toString(stored), m));
      const std::string task = vectors.merge_case.tasks[m];
      expect_near(task_model(outcome, task), naive_task(vectors, m, scales[m], 0.7), rounding);
      expect_near(task_model(plain, task), naive_task(vectors, m, 0.4, 1.0), rounding);
    }
  }
}

TEST(Tall, MergesToTaskArithmetic) {
  VectorCase vectors({"a", "b", "c"});
  vectors.weigh({1.0, 0.5, 2.0}).build();
  Vector change = naive_sum(vectors);
  for (double& value : change) value *= 0.3;
  vectors.expect_change("{method: tall, scale: 0.3}", change);
}

TEST(Tall, OfOneTaskIsItsExpertBitForBit) {
  for (const at::ScalarType stored : test::kStoredTypes) {
    VectorCase vectors({"a"}, stored);
    vectors.build();
    EXPECT_EQ(task_model(vectors.merge_case.merge("tall"), "a"), VectorCase::whole(vectors.merge_case.experts[0]));
  }
}

TEST(Tall, KeepsABitAnElementAndTheBase) {
  VectorCase vectors({"a", "b"});
  vectors.build();
  const NamedTensors parts = vectors.merge_case.merge("tall").task_parts;
  EXPECT_EQ(parts.at("a/matrix.mask").numel(), 2);
  EXPECT_EQ(parts.at("b/kernel.mask").numel(), 3);
  EXPECT_EQ(parts.at("b/scalar.mask").numel(), 1);
  for (const char* name : VectorCase::kNames)
    EXPECT_TRUE(at::equal(parts.at(base_part_name(name)), vectors.merge_case.base.at(name))) << name;
  EXPECT_EQ(parts.size(), 3 * 4U);
}

TEST(Tall, HasNoMaskForATaskOfWeightZeroNorForWhatIsLeftOut) {
  VectorCase vectors({"a", "b"});
  vectors.weigh({1.0, 0.0}).build();
  const NamedTensors parts = vectors.merge_case.merge("{method: tall, except: [vector]}").task_parts;
  EXPECT_TRUE(parts.contains("a/matrix.mask"));
  EXPECT_FALSE(parts.contains("b/matrix.mask"));
  EXPECT_FALSE(parts.contains("a/vector.mask"));
}

TEST(Tall, RefusesWhatItCannotUse) {
  VectorCase vectors({"a", "b"});
  vectors.build();
  EXPECT_THAT(input_error_of([&] { vectors.merge_case.merge("{method: tall, mask_scale: [1, 2, 3]}"); }),
              HasSubstr("3 values for 2 tasks"));
  EXPECT_THAT(input_error_of([&] { vectors.merge_case.merge("{method: tall, mask_scale: []}"); }),
              HasSubstr("mask_scale"));
  EXPECT_THAT(input_error_of([&] { vectors.merge_case.merge("{method: dare, inner: tall}"); }), HasSubstr("twin"));
  vectors.merge_case.input.base = nullptr;
  EXPECT_THAT(input_error_of([&] { vectors.merge_case.merge("tall"); }), HasSubstr("base"));
}

}  // namespace
}  // namespace amalgam
