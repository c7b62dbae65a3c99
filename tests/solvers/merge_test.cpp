#include "solvers/merge.h"

#include <gmock/gmock.h>

#include "core/error.h"
#include "solvers/merge_case.h"

namespace amalgam {
namespace {

using test::difference;
using test::MergeCase;
using testing::HasSubstr;

TEST(Merge, AveragesWhatHasNoStatisticAndCountsIt) {
  MergeCase merge_case;
  merge_case.add(test::linear("fc", 3, 4, true));
  merge_case.parameter("token", {4});
  merge_case.draw({"a", "b"});
  merge_case.build();
  const MergeOutcome outcome = merge_case.merge("mats");
  EXPECT_EQ(outcome.merged.size(), 3);
  EXPECT_LE(
      difference(outcome.merged.at("token"), (merge_case.experts[0]["token"] + merge_case.experts[1]["token"]) / 2),
      1e-15);
  ASSERT_EQ(outcome.report.fallbacks.size(), 1);
  EXPECT_EQ(outcome.report.fallbacks[0].parameter, "token");
  EXPECT_EQ(outcome.report.merged_parameters, 2);
  EXPECT_EQ(outcome.report.method, "mats");
}

TEST(Merge, AveragesFloatingBuffersAndTakesOthersFromTheFirst) {
  MergeCase merge_case;
  merge_case.parameter("p", {2});
  merge_case.draw({"a", "b"});
  for (int64_t m = 0; m < 2; ++m) {
    merge_case.experts[static_cast<size_t>(m)]["mean"] = at::full({2}, 1.0 + 2.0 * static_cast<double>(m));
    merge_case.experts[static_cast<size_t>(m)]["count"] = at::full({}, 7 + m, at::kLong);
  }
  merge_case.base["mean"] = at::zeros({2});
  merge_case.base["count"] = at::zeros({}, at::kLong);
  merge_case.build().buffers = {"mean", "count"};
  const NamedTensors merged = merge_case.merge("task_arithmetic").merged;
  EXPECT_TRUE(at::equal(merged.at("mean"), at::full({2}, 2.0)));
  EXPECT_EQ(merged.at("count").item<int64_t>(), 7);
}

TEST(Merge, KeepsHalfPrecisionAndComputesInFloat32) {
  for (const at::ScalarType dtype : {at::kHalf, at::kBFloat16}) {
    MergeCase merge_case;
    merge_case.add(test::linear("fc", 3, 4, true));
    merge_case.draw({"a", "b", "c"});
    for (auto* tensors : {&merge_case.base, &merge_case.experts[0], &merge_case.experts[1], &merge_case.experts[2]})
      for (auto& [name, tensor] : *tensors) tensor = tensor.to(dtype);
    merge_case.build();
    for (const char* method : {"average", "task_arithmetic", "fisher", "regmean", "mats"}) {
      const NamedTensors merged = merge_case.merge(method).merged;
      EXPECT_EQ(merged.at("fc.weight").scalar_type(), dtype) << method;
      EXPECT_EQ(merged.at("fc.bias").scalar_type(), dtype) << method;
    }
    // Rounded once, at the end: half a unit of the last place, which adding in half precision would miss.
    const at::Tensor merged = merge_case.merge("average").merged.at("fc.weight");
    at::Tensor exact = at::zeros({3, 4}, at::kDouble);
    for (const auto& expert : merge_case.experts) exact += expert.at("fc.weight").to(at::kDouble) / 3;
    const double unit = dtype == at::kHalf ? 0x1p-11 : 0x1p-8;
    EXPECT_LE(((merged.to(at::kDouble) - exact).abs() / exact.abs()).max().item<double>(), 1.001 * unit);
  }
}

TEST(Merge, RefusesAResultThatDoesNotFitItsDtype) {
  MergeCase merge_case;
  merge_case.parameter("p", {2});
  merge_case.draw({"a"});
  merge_case.base["p"] = at::zeros({2}, at::kHalf);
  merge_case.experts[0]["p"] = at::full({2}, 60000.0, at::kHalf);
  merge_case.build();
  try {
    merge_case.merge("{method: task_arithmetic, scale: 2}");
    FAIL();
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), testing::AllOf(HasSubstr("'p'"), HasSubstr("float16")));
  }
}

TEST(Merge, NamesTheExpertThatHoldsNaN) {
  MergeCase merge_case;
  merge_case.parameter("p", {2});
  merge_case.draw({"a", "b"});
  merge_case.experts[1]["p"][0] = NAN;
  merge_case.build();
  try {
    merge_case.merge("average");
    FAIL();
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), testing::AllOf(HasSubstr("'p'"), HasSubstr("expert 'b'")));
  }
}

/// q, k and v in one weight, q with other rows than k and v, stored [in, out]; compared with three separate layers.
TEST(Merge, MergesPackedAndTransposedWeightsAsSeparateOnes) {
  MergeCase separate;
  separate.add(test::linear("q", 4, 5, true));
  separate.add(test::linear("k", 2, 5, true));
  separate.add(test::linear("v", 2, 5, true));
  separate.draw({"a", "b"});
  separate.build();
  MergeCase packed;
  packed.layers.layers.clear();
  const std::vector<std::tuple<std::string, int64_t, int64_t>> slices{{"q", 0, 4}, {"k", 4, 6}, {"v", 6, 8}};
  packed.parameter("qkv.weight", {5, 8});
  packed.parameter("qkv.bias", {8});
  for (const auto& [name, begin, end] : slices) {
    Layer slice = test::linear(name, end - begin, 5, true);
    slice.weight = "qkv.weight";
    slice.bias = "qkv.bias";
    slice.row_begin = begin;
    slice.row_end = end;
    slice.transposed = true;
    packed.layers.layers.push_back(slice);
  }
  packed.draw({"a", "b"});
  packed.data = separate.data;
  const auto pack = [](const NamedTensors& from) {
    return NamedTensors{
        {"qkv.weight", at::cat({from.at("q.weight"), from.at("k.weight"), from.at("v.weight")}).t().contiguous()},
        {"qkv.bias", at::cat({from.at("q.bias"), from.at("k.bias"), from.at("v.bias")})}};
  };
  packed.base = pack(separate.base);
  for (size_t m = 0; m < 2; ++m) packed.experts[m] = pack(separate.experts[m]);
  packed.build();
  for (const char* method : {"regmean", "{method: mats, precision: float64, tolerance: 1e-12}"}) {
    const NamedTensors expected = pack(separate.merge(method).merged);
    const MergeOutcome outcome = packed.merge(method);
    EXPECT_TRUE(outcome.report.fallbacks.empty());
    EXPECT_LE(difference(outcome.merged.at("qkv.weight"), expected.at("qkv.weight")), 1e-10) << method;
    EXPECT_LE(difference(outcome.merged.at("qkv.bias"), expected.at("qkv.bias")), 1e-10) << method;
  }
}

TEST(Merge, AveragesTheRowsOfAPackedWeightThatNoLayerCovers) {
  MergeCase merge_case;
  merge_case.parameter("w", {6, 5});
  Layer slice = test::linear("w[0:4]", 4, 5, false);
  slice.weight = "w";
  merge_case.layers.layers.push_back(slice);
  merge_case.draw({"a", "b"});
  merge_case.build();
  const at::Tensor merged = merge_case.merge("regmean").merged.at("w");
  const at::Tensor mean = (merge_case.experts[0]["w"] + merge_case.experts[1]["w"]) / 2;
  EXPECT_LE(difference(merged.slice(0, 4), mean.slice(0, 4)), 1e-15);
  EXPECT_GT(difference(merged.slice(0, 0, 4), mean.slice(0, 0, 4)), 1e-3);
}

TEST(Merge, SolvesForTheWeightAloneWhereTheBiasIsLeftOut) {
  MergeCase merge_case;
  merge_case.add(test::linear("fc", 3, 4, true));
  merge_case.draw({"a", "b"});
  merge_case.build();
  const NamedTensors merged = merge_case.merge("{method: regmean, ridge: 0, except: ['*.bias']}").merged;
  at::Tensor numerator = at::zeros({3, 4}, at::kDouble), denominator = at::zeros({4, 4}, at::kDouble);
  for (size_t m = 0; m < 2; ++m) {
    const at::Tensor inputs = merge_case.data[m]["fc"].inputs[0];
    const at::Tensor gram = inputs.t().mm(inputs);
    numerator += merge_case.experts[m]["fc.weight"].mm(gram);
    denominator += gram;
  }
  EXPECT_LE(difference(merged.at("fc.weight"), numerator.mm(at::linalg_inv(denominator))), 1e-12);
  EXPECT_LE(difference(merged.at("fc.bias"), (merge_case.experts[0]["fc.bias"] + merge_case.experts[1]["fc.bias"]) / 2),
            1e-15);
}

TEST(Merge, DividesEachTasksSumsByItsOwnRows) {
  MergeCase merge_case;
  merge_case.add(test::linear("fc", 4, 6, true));
  merge_case.draw({"a", "b"});
  merge_case.data[1]["fc"] = {merge_case.random.normal({1, 90, 6}), merge_case.random.normal({1, 90, 4})};
  merge_case.build();
  const auto merged = [&](const std::string& entry) { return MergeCase::matrix(merge_case.merge(entry).merged, "fc"); };
  // Σ kron(B, A) vec(W) = Σ kron(B, A) vec(W_m), B by examples or by rows; for RegMean it is the identity.
  const auto expected = [&](const std::string& outputs) {
    at::Tensor matrix = at::zeros({28, 28}, at::kDouble), rhs = at::zeros({28}, at::kDouble);
    for (size_t m = 0; m < 2; ++m) {
      const auto rows = static_cast<double>(merge_case.data[m]["fc"].inputs.size(1));
      at::Tensor b = merge_case.b_of(m, "fc");
      if (outputs == "rows") b = b * (static_cast<double>(MergeCase::kExamples) / rows);
      if (outputs == "identity") b = at::eye(4, at::kDouble);
      const at::Tensor product = at::kron(b.contiguous(), merge_case.a_of(m, "fc").contiguous());
      matrix += product;
      rhs += product.mv(MergeCase::matrix(merge_case.experts[m], "fc").flatten());
    }
    return at::linalg_solve(matrix, rhs).view({4, 7});
  };
  EXPECT_LE(difference(merged("{method: regmean, ridge: 0}"), expected("identity")), 1e-11);
  for (const std::string normalise : {"none", "rows"})
    EXPECT_LE(difference(merged("{method: mats, normalise: " + normalise +
                                ", off_diagonal: 1, damping: 0, tolerance: 1e-13, iterations: 2000}"),
                         expected(normalise)),
              1e-9)
        << normalise;
  EXPECT_GT(difference(expected("none"), expected("rows")), 1e-3);
}

TEST(Merge, NeverReturnsViewsOfAnExpert) {
  MergeCase merge_case;
  merge_case.parameter("p", {2});
  merge_case.draw({"a"});
  merge_case.build();
  EXPECT_NE(merge_case.merge("average").merged.at("p").data_ptr(), merge_case.experts[0]["p"].data_ptr());
}

TEST(Merge, StopsWhenProgressSaysSo) {
  class Stop final : public Progress {
   public:
    void begin(const std::string&, int64_t total) override { total_ = total; }
    void update(int64_t done, const std::string&) override {
      EXPECT_LE(done, total_);
      throw Interrupted();
    }
    void end(const std::string&) override {}
    void message(const std::string&) override {}

   private:
    int64_t total_ = 0;
  } progress;
  MergeCase merge_case;
  merge_case.add(test::linear("fc", 3, 4, true));
  merge_case.draw({"a", "b"});
  merge_case.build();
  const auto method = make_method("mats", {}, "merge");
  EXPECT_THROW(merge(*method, merge_case.input, progress), Interrupted);
}

}  // namespace
}  // namespace amalgam
