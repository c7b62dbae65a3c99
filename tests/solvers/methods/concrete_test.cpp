#include "solvers/methods/concrete.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/optim.h>

#include "core/error.h"
#include "core/random.h"
#include "expect_error.h"
#include "solvers/interrupting_progress.h"
#include "solvers/probe_case.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

using test::difference;
using test::entropy_of;
using test::EntropyCase;
using test::kEps64;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

/// The method as its authors' code does it: autograd through the mask and the merge, LibTorch's Adam.
class Naive {
 public:
  explicit Naive(const EntropyCase& model) : model_(model) {
    for (const std::string& name : model.parameters) {
      logits_[name] = at::zeros(model.base.at(name).sizes(), at::kDouble).requires_grad_();
      coefficients_[name] = at::full({static_cast<int64_t>(model.tasks.size())}, 0.4, at::kDouble).requires_grad_();
    }
  }

  void find_mask(int steps, double rate) {
    descend(logits_, steps, rate, [&](int step) {
      NamedTensors masks;
      for (const std::string& name : model_.parameters) masks[name] = drawn(name, step);
      return masks;
    });
  }
  void find_coefficients(const NamedTensors& masks, int steps, double rate) {
    descend(coefficients_, steps, rate, [&](int) { return masks; });
  }

  at::Tensor drawn(const std::string& name, int step) const {
    const at::Tensor& x = logits_.at(name);
    const at::Tensor u =
        at::rand(x.sizes(), RandomStream(0, "concrete\n" + name).generator(static_cast<uint64_t>(step)), at::kDouble);
    const at::Tensor mask = ((u.log() - (1 - u).log() + x) / 0.5).sigmoid();
    return mask / mask.mean();
  }
  NamedTensors mean_masks() const {
    NamedTensors masks;
    for (const auto& [name, x] : logits_) masks[name] = (x.sigmoid() / x.sigmoid().mean()).detach();
    return masks;
  }
  NamedTensors merged(const NamedTensors& masks) const {
    NamedTensors merged;
    for (const std::string& name : model_.parameters) {
      at::Tensor sum = model_.base.at(name);
      for (size_t m = 0; m < model_.tasks.size(); ++m)
        sum = sum + coefficients_.at(name)[static_cast<int64_t>(m)] * masks.at(name) *
                        (model_.experts[m].at(name) - model_.base.at(name));
      merged[name] = sum;
    }
    return merged;
  }

 private:
  void descend(const NamedTensors& moved, int steps, double rate, const std::function<NamedTensors(int)>& masks) const {
    const at::AutoGradMode with_gradients(true);
    std::vector<at::Tensor> all;
    for (const auto& [name, tensor] : moved) all.push_back(tensor);
    torch::optim::Adam optimiser(all, torch::optim::AdamOptions(rate));
    for (int step = 0; step < steps; ++step) {
      optimiser.zero_grad();
      at::Tensor loss = at::zeros({}, at::kDouble);
      for (const std::string& task : model_.tasks)
        loss =
            loss + entropy_of(merged(masks(step)), model_.probe->inputs(task, {"val", 8, static_cast<uint64_t>(step)}));
      (loss / static_cast<double>(model_.tasks.size())).backward();
      optimiser.step();
    }
  }

  const EntropyCase& model_;
  NamedTensors logits_, coefficients_;
};

void expect_close(const NamedTensors& merged, const NamedTensors& expected, double tolerance) {
  for (const auto& [name, tensor] : expected)
    EXPECT_LE(difference(merged.at(name), tensor.detach()), tolerance) << name;
}

TEST(Concrete, GoesTheWayOfAutogradThroughMaskAndMerge) {
  EntropyCase model({"a", "b", "c"});
  model.begin();
  Naive naive(model);
  naive.find_mask(40, 0.05);
  NamedTensors drawn;
  for (const std::string& name : model.parameters) drawn[name] = naive.drawn(name, 40);
  const std::string options = "method: concrete, steps: 40, rate: 0.05, batch: 8, scale: 0.4";
  // 40 steps: rounding grows by Adam's division by small slopes.
  const auto merged = model.merge("{" + options + "}");
  expect_close(merged.merged, naive.merged(naive.mean_masks()), 1e-9);
  expect_close(model.merge("{" + options + ", mask: drawn}").merged, naive.merged(drawn), 1e-9);
  ASSERT_TRUE(merged.report.search);
  EXPECT_THAT(merged.report.search->curve, SizeIs(40));
  EXPECT_THAT(merged.report.search->groups, SizeIs(0));
  EXPECT_EQ(merged.report.search->val_looks, 0);
  EXPECT_EQ(merged.report.search->measure, "entropy on val");
}

TEST(Concrete, FindsCoefficientsForTheMask) {
  EntropyCase model({"a", "b", "c"});
  model.begin();
  Naive naive(model);
  naive.find_mask(20, 0.05);
  naive.find_coefficients(naive.mean_masks(), 25, 0.05);
  const auto merged = model.merge(
      "{method: concrete, steps: 20, rate: 0.05, batch: 8, scale: 0.4, coefficients: parameter, coefficient_steps: "
      "25}");
  expect_close(merged.merged, naive.merged(naive.mean_masks()), 1e-9);
  const SearchReport& search = *merged.report.search;
  EXPECT_THAT(search.curve, SizeIs(45));
  EXPECT_EQ(search.curve.back().spent, 44);
  EXPECT_EQ(search.groups, model.parameters);
  EXPECT_THAT(search.tasks, ElementsAre("a", "b", "c"));
  EXPECT_THAT(search.why, HasSubstr("from step 20 on the coefficients"));
}

TEST(Concrete, IsTaskArithmeticBeforeItsFirstStep) {
  EntropyCase model({"a", "b"});
  model.weights = {2.0, 0.5};
  model.begin();
  for (const std::string coefficients : {"fixed", "parameter, coefficient_steps: 0"})
    expect_close(model.merge("{method: concrete, steps: 0, coefficients: " + coefficients + "}").merged,
                 model.merge("{method: task_arithmetic, scale: 0.3}").merged, 8 * kEps64);
  EXPECT_TRUE(model.probe->calls.empty());
}

TEST(Concrete, IsAdaMergingWithoutAMask) {
  EntropyCase model({"a", "b"});
  model.begin();
  const std::string rest = ", coefficients: model, rate: 0.02, batch: 8}";
  const auto masked = model.merge("{method: concrete, steps: 0, coefficient_steps: 12" + rest);
  const auto plain = model.merge("{method: adamerging, steps: 12, clamp: false" + rest);
  EXPECT_EQ(masked.report.search->coefficients, plain.report.search->coefficients);
  for (const auto& [name, tensor] : plain.merged) EXPECT_TRUE(at::equal(tensor, masked.merged.at(name))) << name;
}

TEST(Concrete, MovesTheMaskToWhatMakesPredictionsSure) {
  EntropyCase model({"a"});
  // Half of the last layer's changes make the output larger, half of them smaller.
  const at::Tensor grows = at::arange(5, at::kDouble).lt(3).to(at::kDouble) * 2 - 1;
  for (const std::string& name : model.parameters) model.experts[0][name] = model.base.at(name).clone();
  model.experts[0]["net.1.weight"] = model.base.at("net.1.weight") * (1 + 0.8 * grows);
  model.begin();
  const auto merged = model.merge("{method: concrete, steps: 200, rate: 0.02, batch: 23, scale: 1}");
  const at::Tensor change = merged.merged.at("net.1.weight") / model.base.at("net.1.weight") - 1;  // r ⊙ ±0.8
  EXPECT_GT(change.slice(1, 0, 3).mean().item<double>(), 1.0);
  EXPECT_GT(change.slice(1, 3, 5).mean().item<double>(), -0.5);
  EXPECT_LT(merged.report.search->curve.back().value, merged.report.search->curve.front().value);
}

TEST(Concrete, LeavesAsideWhatItIsToldToAndDoesNotLookAtATaskOfWeightZero) {
  EntropyCase model({"a", "b", "c"});
  model.weights = {1.0, 0.0, 2.0};
  model.begin();
  const auto merged = model.merge("{method: concrete, steps: 3, batch: 8, split: test, except: [net.0.*]}");
  const auto averaged = model.merge("average");
  EXPECT_TRUE(at::equal(merged.merged.at("net.0.weight"), averaged.merged.at("net.0.weight")));
  EXPECT_TRUE(at::equal(merged.merged.at("running"), averaged.merged.at("running")));
  EXPECT_THAT(model.probe->calls, SizeIs(6));
  for (size_t i = 0; i < model.probe->calls.size(); ++i) {
    EXPECT_EQ(model.probe->calls[i].task, i % 2 == 0 ? "a" : "c");
    EXPECT_EQ(model.probe->calls[i].batch.split, "test");
  }
}

TEST(Concrete, GoesOnWhereItWasStoppedToTheSameBits) {
  EntropyCase model({"a", "b"});
  model.begin();
  const auto method = [] {
    return make_method(YAML::Load("{method: concrete, steps: 20, rate: 0.02, batch: 8, coefficients: block, "
                                  "coefficient_steps: 10}"),
                       "merge");
  };
  SilentProgress silent;
  const auto whole = merge(*method(), model.input, silent);
  const TemporaryFolder folder;
  MergeArrangement arrangement;
  arrangement.search_folder = folder.path();
  for (const int64_t update : {20, 35, 30}) {  // twice with the mask, and then with the coefficients
    test::InterruptingProgress interrupting(update);
    EXPECT_THROW(merge(*method(), model.input, interrupting, arrangement), Interrupted);
  }
  model.probe->calls.clear();
  const auto resumed = merge(*method(), model.input, silent, arrangement);
  EXPECT_LT(model.probe->calls.size(), 20U);  // of 60
  for (const auto& [name, tensor] : whole.merged) EXPECT_TRUE(at::equal(tensor, resumed.merged.at(name))) << name;
  EXPECT_EQ(whole.report.search->coefficients, resumed.report.search->coefficients);
  ASSERT_THAT(resumed.report.search->curve, SizeIs(30));
  for (size_t i = 0; i < 30; ++i)
    EXPECT_EQ(whole.report.search->curve[i].value, resumed.report.search->curve[i].value) << i;
}

TEST(Concrete, DrawsByItsSeed) {
  EntropyCase model({"a", "b"});
  model.begin();
  const std::string entry = "{method: concrete, steps: 3, batch: 8}";
  const auto first = model.merge(entry), again = model.merge(entry);
  model.input.seed = 1;
  const auto other = model.merge(entry);
  EXPECT_TRUE(at::equal(first.merged.at("net.0.weight"), again.merged.at("net.0.weight")));
  EXPECT_FALSE(at::equal(first.merged.at("net.0.weight"), other.merged.at("net.0.weight")));
}

TEST(Concrete, RefusesStepsForCoefficientsThatAreFixed) {
  EXPECT_THAT(input_error_of([] { make_method(YAML::Load("{method: concrete, coefficient_steps: 200}"), "merge"); }),
              HasSubstr("merge.coefficient_steps"));
}

TEST(Concrete, NeedsABaseAndSomethingToRunTheModelsWith) {
  EntropyCase model({"a", "b"});
  model.begin();
  EXPECT_THAT(input_error_of([&] { model.merge("{method: concrete, except: ['*']}"); }), HasSubstr("no parameter"));
  model.input.probe = nullptr;
  EXPECT_THAT(input_error_of([&] { model.merge("concrete"); }), HasSubstr("runs the models"));
  model.input.base = nullptr;
  EXPECT_THAT(input_error_of([&] { model.merge("concrete"); }), HasSubstr("needs the base"));
}

}  // namespace
}  // namespace amalgam
