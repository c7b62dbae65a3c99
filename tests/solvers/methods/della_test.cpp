#include "solvers/methods/della.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

#include "expect_error.h"
#include "solvers/vector_case.h"

namespace amalgam {
namespace {

using test::MergeCase;
using test::Vector;
using test::VectorCase;
using testing::HasSubstr;

struct Setting {
  double drop = 0.3, window = 0.14, scale = 1.1;
};

/// q of each element of a parameter, by its rank in its row.
Vector stay_probability(const Vector& change, size_t row, const Setting& setting) {
  Vector stay;
  for (size_t i = 0; i < change.size(); ++i) {
    const size_t begin = i / row * row;
    double smaller = 0;  // rank − 1
    for (size_t j = begin; j < begin + row; ++j) smaller += std::abs(change[j]) < std::abs(change[i]) ? 1 : 0;
    const double window = row > 1 ? -setting.window / 2 + setting.window * smaller / static_cast<double>(row - 1) : 0;
    stay.push_back(1 - setting.drop + window);
  }
  return stay;
}

/// Of the whole model: rows of 5, 7, 9 (a kernel's first axis has two) and 1.
Vector stay_probability(const VectorCase& vectors, size_t expert, const Setting& setting) {
  return vectors.by_parameter([&](const std::string& name) {
    const Vector change = vectors.changes(name)[expert];
    const size_t row = name == "matrix" ? 5 : name == "vector" ? 7 : name == "kernel" ? 9 : 1;
    return stay_probability(change, row, setting);
  });
}

/// d / q of what stays. Which elements do is read off a merge of one expert alone, without election.
std::vector<Vector> left_of(VectorCase& vectors, const std::string& options, const Setting& setting) {
  std::vector<Vector> left;
  const std::vector<Vector> changes = vectors.changes();
  for (size_t m = 0; m < changes.size(); ++m) {
    const Vector alone = vectors.change_alone("{method: della" + options + "}", m),
                 stay = stay_probability(vectors, m, setting);
    Vector& of_expert = left.emplace_back();
    for (size_t i = 0; i < alone.size(); ++i) of_expert.push_back(alone[i] == 0 ? 0.0 : changes[m][i] / stay[i]);
  }
  return left;
}

/// Sign election and the mean of those that agree.
Vector elect(const std::vector<Vector>& left, const Vector& weights, double scale) {
  Vector merged(left.front().size(), 0.0);
  for (size_t i = 0; i < merged.size(); ++i) {
    double vote = 0, sum = 0, total = 0;
    for (size_t m = 0; m < left.size(); ++m) vote += weights[m] * left[m][i];
    for (size_t m = 0; m < left.size(); ++m) {
      if (left[m][i] == 0 || (left[m][i] > 0) != (vote >= 0)) continue;
      sum += weights[m] * left[m][i];
      total += weights[m];
    }
    if (total > 0) merged[i] = scale * sum / total;
  }
  return merged;
}

TEST(Della, DropsElectsAndAverages) {
  for (const at::ScalarType stored : {at::kDouble, at::kFloat}) {
    VectorCase vectors({"a", "b", "c"}, stored);
    vectors.weigh({1.0, 0.5, 2.0}).build();
    vectors.expect_change("della", elect(left_of(vectors, "", {}), vectors.weights(), 1.1));
    const std::string options = ", drop: 0.5, window: 0.8, scale: 0.7";
    vectors.expect_change("{method: della" + options + "}",
                          elect(left_of(vectors, options, {0.5, 0.8, 0.7}), vectors.weights(), 0.7));
  }
}

TEST(Della, CalculatesHalfPrecisionInFloat32) {
  VectorCase half({"a"}, at::kBFloat16), exact({"a"});
  half.build();
  exact.build();
  const std::string options = "{method: della, window: 0, scale: 1}";  // ranks of rounded changes may differ
  const Vector alone = exact.change_alone(options, 0), change = half.changes()[0];
  Vector expected;
  for (size_t i = 0; i < change.size(); ++i) expected.push_back(alone[i] == 0 ? 0.0 : change[i] / 0.7);
  half.expect_change(options, expected);
}

TEST(Della, DropsSmallChangesMoreOften) {
  constexpr int64_t kRows = 4000, kColumns = 5;
  MergeCase merge_case;
  merge_case.parameter("p", {kRows, kColumns});
  merge_case.draw({"a"});
  merge_case.base["p"] = at::zeros({kRows, kColumns}, at::kDouble);
  // Sizes 3, 1, 5, 2, 4 in every row.
  merge_case.experts[0]["p"] = at::tensor({3.0, -1.0, 5.0, 2.0, -4.0}, at::kDouble).repeat({kRows, 1});
  merge_case.build();
  const at::Tensor merged = merge_case.merge("{method: della, drop: 0.5, window: 0.8, scale: 1}").merged.at("p");
  const double stays[] = {0.5, 0.1, 0.9, 0.3, 0.7};
  for (int64_t i = 0; i < kColumns; ++i) {
    const double stay = stays[i], share = (merged.select(1, i) != 0).to(at::kDouble).mean().item<double>();
    EXPECT_NEAR(share, stay, 5 * std::sqrt(stay * (1 - stay) / kRows)) << i;
  }
}

TEST(Della, OfOneTaskIsItsScaledExpertOnAverageOverSeeds) {
  constexpr int kSeeds = 400;
  VectorCase vectors({"a"});
  vectors.build();
  Vector mean(41, 0.0);
  for (int seed = 0; seed < kSeeds; ++seed) {
    vectors.merge_case.input.seed = static_cast<uint64_t>(seed);
    const Vector change = vectors.change_alone("della", 0);
    for (size_t i = 0; i < mean.size(); ++i) mean[i] += change[i] / kSeeds;
  }
  const Vector change = vectors.changes()[0], stay = stay_probability(vectors, 0, {});
  for (size_t i = 0; i < mean.size(); ++i) {
    const double deviation = 1.1 * std::abs(change[i]) * std::sqrt((1 - stay[i]) / stay[i] / kSeeds);
    EXPECT_NEAR(mean[i], 1.1 * change[i], 5 * deviation) << i;
  }
}

TEST(Della, WithoutDroppingIsTiesByTensorWithoutTrimming) {
  VectorCase vectors({"a", "b", "c"});
  vectors.weigh({1.0, 0.5, 2.0}).build();
  const Vector della =
                   VectorCase::whole(vectors.merge_case.merge("{method: della, drop: 0, window: 0, scale: 1}").merged),
               ties = VectorCase::whole(vectors.merge_case.merge("{method: ties, density: 1, trim: tensor}").merged);
  for (size_t i = 0; i < della.size(); ++i) EXPECT_NEAR(della[i], ties[i], 1e-15) << i;
}

TEST(Della, OfCopiesWithoutDroppingIsThatExpert) {
  VectorCase vectors({"a", "b", "c"});
  vectors.with_equal_experts().build();
  vectors.expect_change("{method: della, drop: 0, window: 0, scale: 1}", vectors.changes()[0]);
}

TEST(Della, DrawsTheSameInAnyOrderOfTasks) {
  VectorCase one({"a", "b"}), other({"a", "b"});
  one.build();
  std::swap(other.merge_case.tasks[0], other.merge_case.tasks[1]);
  std::swap(other.merge_case.experts[0], other.merge_case.experts[1]);
  other.build();
  EXPECT_EQ(one.change_alone("della", 0), other.change_alone("della", 1));
}

TEST(Della, RefusesWhatItCannotUse) {
  VectorCase vectors({"a", "b"});
  vectors.weigh({1.0, -1.0}).build();
  const auto message = [&](const char* entry) { return input_error_of([&] { vectors.merge_case.merge(entry); }); };
  EXPECT_THAT(message("della"), HasSubstr("no negative weight"));
  EXPECT_THAT(message("{method: della, drop: 0.05}"), HasSubstr("probabilities"));
  EXPECT_THAT(message("{method: della, drop: 0.95}"), HasSubstr("probabilities"));
  EXPECT_THAT(message("{method: della, window: -1}"), HasSubstr("window"));
  vectors.merge_case.input.base = nullptr;
  EXPECT_THAT(message("della"), HasSubstr("base"));
}

}  // namespace
}  // namespace amalgam
