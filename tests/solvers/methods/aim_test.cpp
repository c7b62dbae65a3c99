#include "solvers/methods/aim.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "expect_error.h"
#include "solvers/merge_case.h"

namespace amalgam {
namespace {

using test::difference;
using test::MergeCase;
using ::testing::HasSubstr;

/// The roots of the mean squares of a layer's inputs, one at a time: one a group and input.
std::vector<std::vector<double>> sizes(const std::vector<at::Tensor>& inputs) {
  std::vector<std::vector<double>> result(static_cast<size_t>(inputs[0].size(0)));
  for (int64_t group = 0; group < inputs[0].size(0); ++group)
    for (int64_t i = 0; i < inputs[0].size(2); ++i) {
      double mean = 0;
      for (const at::Tensor& input : inputs) {
        double sum = 0;
        for (int64_t row = 0; row < input.size(1); ++row) sum += std::pow(input[group][row][i].item<double>(), 2);
        mean += sum / static_cast<double>(input.size(1)) / static_cast<double>(inputs.size());
      }
      result[static_cast<size_t>(group)].push_back(std::sqrt(mean));
    }
  return result;
}

/// W0 + (W' − W0) (1 − (1 − ω) a / max a), element by element, of weights seen as [groups, rows, inputs].
at::Tensor reference(const at::Tensor& base, const at::Tensor& inner, const std::vector<std::vector<double>>& sizes,
                     double omega) {
  double largest = 0;
  for (const auto& group : sizes)
    for (const double size : group) largest = std::max(largest, size);
  const auto groups = static_cast<int64_t>(sizes.size()), inputs = static_cast<int64_t>(sizes[0].size());
  const at::Tensor from = base.reshape({groups, -1, inputs}), to = inner.reshape({groups, -1, inputs});
  at::Tensor result = from.clone();
  for (int64_t g = 0; g < groups; ++g)
    for (int64_t row = 0; row < from.size(1); ++row)
      for (int64_t i = 0; i < inputs; ++i) {
        const double share = 1 - (1 - omega) * sizes[static_cast<size_t>(g)][static_cast<size_t>(i)] / largest;
        result[g][row][i] += (to[g][row][i] - from[g][row][i]) * share;
      }
  return result.reshape(base.sizes());
}

struct ScaledInputs {
  MergeCase merge_case;

  void draw(const Layer& layer) {
    merge_case.add(layer);
    merge_case.parameter("norm", {5});
    merge_case.draw({"a", "b"});
    for (auto& data : merge_case.data)
      data[layer.name].inputs.mul_(merge_case.random.normal({1, 1, layer.in}));  // channels of different size
    merge_case.weights = {1.0, 0.5};
  }
  std::vector<at::Tensor> inputs(const std::string& layer) const {
    std::vector<at::Tensor> all;
    for (const auto& data : merge_case.data) all.push_back(data.at(layer).inputs);
    return all;
  }
};

struct AimCase : testing::Test, ScaledInputs {};

TEST_F(AimCase, HoldsBackWhatAnotherMethodMergesParameterByParameter) {
  draw(test::linear("fc", 5, 7, true));
  merge_case.build();
  const auto inner = merge_case.merge("{method: task_arithmetic, scale: 0.7}").merged;
  for (const double omega : {0.0, 0.4, 0.9}) {
    const auto merged =
        merge_case
            .merge("{method: aim, omega: " + std::to_string(omega) + ", inner: {method: task_arithmetic, scale: 0.7}}")
            .merged;
    EXPECT_LE(difference(merged.at("fc.weight"),
                         reference(merge_case.base["fc.weight"], inner.at("fc.weight"), sizes(inputs("fc")), omega)),
              1e-12);
    EXPECT_TRUE(at::equal(merged.at("fc.bias"), inner.at("fc.bias")));
    EXPECT_TRUE(at::equal(merged.at("norm"), inner.at("norm")));
  }
}

TEST(Aim, HoldsBackWhatAnotherMethodMergesLayerByLayer) {
  for (const bool bias : {false, true}) {
    ScaledInputs other;
    other.draw(test::linear("fc", 5, 7, bias));
    other.merge_case.build();
    const auto inner = other.merge_case.merge("regmean").merged;
    const auto merged = other.merge_case.merge("{method: aim, inner: regmean}").merged;
    EXPECT_LE(difference(merged.at("fc.weight"), reference(other.merge_case.base["fc.weight"], inner.at("fc.weight"),
                                                           sizes(other.inputs("fc")), 0.4)),
              1e-12);
    if (!bias) continue;
    EXPECT_LE(difference(merged.at("fc.bias"), inner.at("fc.bias")), 1e-12);
  }
}

TEST_F(AimCase, HoldsBackConvolutionsByChannelAndPosition) {
  draw(test::convolution("conv", 6, 2, 3, 2, true));
  merge_case.build();
  for (const std::string method : {"task_arithmetic", "regmean"}) {
    const auto inner = merge_case.merge(method).merged;
    const auto merged = merge_case.merge("{method: aim, inner: " + method + "}").merged;
    EXPECT_LE(difference(merged.at("conv.weight"), reference(merge_case.base["conv.weight"], inner.at("conv.weight"),
                                                             sizes(inputs("conv")), 0.4)),
              1e-12);
  }
}

TEST_F(AimCase, TakesEachPartOfAPackedWeightByItsOwnInputs) {
  for (int part = 0; part < 2; ++part) {
    Layer layer = test::linear(part == 0 ? "top" : "bottom", 3, 7, false);
    layer.weight = "packed";
    layer.row_begin = 3 * part;
    layer.row_end = 3 * part + 3;
    merge_case.layers.layers.push_back(layer);
  }
  merge_case.parameter("packed", {6, 7});
  merge_case.draw({"a", "b"});
  merge_case.build();
  const at::Tensor inner = merge_case.merge("average").merged.at("packed"), base = merge_case.base["packed"];
  const at::Tensor merged = merge_case.merge("{method: aim, inner: average}").merged.at("packed");
  EXPECT_LE(difference(merged.slice(0, 0, 3),
                       reference(base.slice(0, 0, 3), inner.slice(0, 0, 3), sizes(inputs("top")), 0.4)),
            1e-12);
  EXPECT_LE(
      difference(merged.slice(0, 3), reference(base.slice(0, 3), inner.slice(0, 3), sizes(inputs("bottom")), 0.4)),
      1e-12);
}

TEST_F(AimCase, GoesByTheBasesInputsWhereItsStatisticsHoldThem) {
  draw(test::linear("fc", 5, 7, true));
  merge_case.build();
  const Statistics* of_base = merge_case.input.experts[1].statistics;  // any will do
  merge_case.input.base_statistics = of_base;
  const at::Tensor inner = merge_case.merge("average").merged.at("fc.weight");
  EXPECT_LE(difference(merge_case.merge("{method: aim, inner: average}").merged.at("fc.weight"),
                       reference(merge_case.base["fc.weight"], inner, sizes({inputs("fc")[1]}), 0.4)),
            1e-12);
}

TEST_F(AimCase, GoesByTheInputsOfTheTasksThatHaveASay) {
  draw(test::linear("fc", 5, 7, true));
  merge_case.weights = {1.0, 0.0};
  merge_case.build();
  const at::Tensor inner = merge_case.merge("average").merged.at("fc.weight");
  EXPECT_LE(difference(merge_case.merge("{method: aim, inner: average}").merged.at("fc.weight"),
                       reference(merge_case.base["fc.weight"], inner, sizes({inputs("fc")[0]}), 0.4)),
            1e-12);
}

TEST_F(AimCase, HoldsNothingBackAtOneOrWhereNoInputEverCame) {
  draw(test::linear("fc", 5, 7, true));
  merge_case.build();
  const at::Tensor inner = merge_case.merge("average").merged.at("fc.weight");
  EXPECT_LE(difference(merge_case.merge("{method: aim, omega: 1, inner: average}").merged.at("fc.weight"), inner),
            1e-15);

  ScaledInputs dead;
  dead.draw(test::linear("fc", 5, 7, true));
  for (auto& data : dead.merge_case.data) data["fc"].inputs.zero_();
  dead.merge_case.build();
  EXPECT_TRUE(at::equal(dead.merge_case.merge("{method: aim, inner: average}").merged.at("fc.weight"),
                        dead.merge_case.merge("average").merged.at("fc.weight")));
}

TEST_F(AimCase, RefusesInputsThatAreNotFinite) {
  draw(test::linear("fc", 5, 7, true));
  at::Tensor gram = at::eye(7, at::kDouble);
  gram[2][2] = std::nan("");
  merge_case.replaced[1]["fc/input_gram"] = gram;
  merge_case.build();
  EXPECT_THAT(input_error_of([&] { merge_case.merge("{method: aim, inner: average}"); }),
              HasSubstr("statistics of task 'b', layer 'fc': the input Gram matrix"));
  merge_case.input.base_statistics = merge_case.input.experts[1].statistics;
  EXPECT_THAT(input_error_of([&] { merge_case.merge("{method: aim, inner: average}"); }),
              HasSubstr("statistics of the base, layer 'fc'"));
}

TEST_F(AimCase, KeepsTheDtypeAndWhatTheUserLeavesOut) {
  draw(test::linear("fc", 5, 7, true));
  merge_case.store_as(at::kBFloat16);
  merge_case.build();
  const auto merged = merge_case.merge("{method: aim, inner: ties}").merged;
  EXPECT_EQ(merged.at("fc.weight").scalar_type(), at::kBFloat16);
  const at::Tensor inner = merge_case.merge("ties").merged.at("fc.weight").to(at::kDouble);
  EXPECT_LE(difference(merged.at("fc.weight").to(at::kDouble),
                       reference(merge_case.base["fc.weight"].to(at::kDouble), inner, sizes(inputs("fc")), 0.4)),
            2.0 / 256);
  EXPECT_TRUE(at::equal(merge_case.merge("{method: aim, except: ['fc.*'], inner: ties}").merged.at("fc.weight"),
                        merge_case.merge("average").merged.at("fc.weight")));
}

TEST(Aim, RefusesWhatItCannotHoldBack) {
  const auto refusal = [](const std::string& entry) {
    return input_error_of([&] { make_method(YAML::Load(entry), "merge.aim"); });
  };
  EXPECT_THAT(refusal("{method: aim, inner: regmean++}"), HasSubstr("'regmean++' runs the models"));
  EXPECT_THAT(refusal("{method: aim, inner: twin}"), HasSubstr("'twin' keeps parts of tasks"));
  EXPECT_THAT(refusal("{method: aim, inner: {method: ties, except: [a]}}"), HasSubstr("give them to `aim`"));
  EXPECT_THAT(refusal("{method: aim, omega: 1.5}"), HasSubstr("omega"));
}

}  // namespace
}  // namespace amalgam
