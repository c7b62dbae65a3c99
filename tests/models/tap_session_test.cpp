#include "models/tap_session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/runtime/graph_executor.h>

#include "expect_error.h"
#include "models/loss.h"
#include "tests/models/tap_model_zoo.h"

namespace amalgam {
namespace {

using namespace test;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr ObserverNeeds kGradients{.gradients = true};

std::vector<std::string> names_of(const std::vector<LayerCall>& calls) {
  std::vector<std::string> names;
  for (const LayerCall& call : calls) names.push_back(call.layer.name);
  return names;
}

std::string reason(const TapSession& session, const std::string& parameter) {
  const auto found = session.not_understood().find(parameter);
  return found == session.not_understood().end() ? "" : *found->second.begin();
}

/// Should LibTorch's key change its meaning, this fails and says so.
TEST(TapSession, SeesAnOperatorThroughTheDispatchKeyOfTheTaps) {
  const at::Tensor weight = numbers({3, 4}, 1);
  TapSession session({{"weight", weight}}, kGradients);
  session.run([&] { return at::linear(numbers({2, 4}, 2), weight); });
  ASSERT_EQ(session.calls().size(), 1U)
      << "DispatchKey::TESTING_ONLY_GenericMode of this LibTorch no longer shows operators; see Note [Taps]";
}

TEST(TapSession, SeesTheSameOnEveryCall) {
  for (const Made made : {Made::kScripted, Made::kTraced}) {
    const TapModel model = zoo_model("Linear");
    const auto runner = make_runner(model, made);
    TapSession session(runner->parameters(), kGradients);
    for (int call = 0; call < 4; ++call) {
      const at::Tensor output = session.run([&] { return runner->forward(model.data); });
      EXPECT_THAT(names_of(session.calls()), ElementsAre("first", "second"));
      for (const at::Tensor& gradient : session.gradients(output.square().sum())) {
        ASSERT_TRUE(gradient.defined()) << "on call " << call;
        EXPECT_TRUE(gradient.ne(0).any().item<bool>());
      }
    }
  }
}

TEST(TapSession, PutsProfilingModeAndRequirementsBack) {
  const at::Tensor a = numbers({3, 4}, 1), b = numbers({3, 4}, 2).requires_grad_(), index = at::zeros({2}, at::kLong);
  for (const bool before : {true, false}) {
    torch::jit::getProfilingMode() = before;
    {
      const TapSession session({{"a", a}, {"b", b}, {"index", index}}, kGradients);
      EXPECT_FALSE(torch::jit::getProfilingMode());
      EXPECT_TRUE(a.requires_grad());
    }
    EXPECT_EQ(torch::jit::getProfilingMode(), before);
    EXPECT_FALSE(a.requires_grad());
    EXPECT_TRUE(b.requires_grad());
  }
  torch::jit::getProfilingMode() = true;
}

TEST(TapSession, IsOffOutsideOfARunAndAfterOneThatThrew) {
  const at::Tensor weight = numbers({3, 4}, 1), x = numbers({2, 4}, 2);
  TapSession session({{"weight", weight}}, kGradients);
  EXPECT_THROW(session.run([&]() -> at::Tensor { throw std::runtime_error("model"); }), std::runtime_error);
  at::linear(x, weight);
  EXPECT_TRUE(session.calls().empty());
  session.run([&] { return at::linear(x, weight); });
  EXPECT_EQ(session.calls().size(), 1U);
}

TEST(TapSession, ComputesNoGradientOfAParameter) {
  const TapModel model = zoo_model("Linear");
  const auto runner = make_runner(model);
  TapSession session(runner->parameters(), kGradients);
  const at::Tensor output = session.run([&] { return runner->forward(model.data); });
  session.gradients(output.sum());
  for (const auto& [name, parameter] : runner->parameters()) EXPECT_FALSE(parameter.grad().defined()) << name;
}

TEST(TapSession, GivesTheGradientOfAnOutputThatIsAViewAndIsWrittenInto) {
  const at::Tensor weight = numbers({3, 4}, 1), bias = numbers({3}, 2), x = numbers({2, 5, 4}, 3);
  TapSession session({{"weight", weight}, {"bias", bias}}, kGradients);
  const at::Tensor output = session.run([&] {
    at::Tensor h = at::linear(x, weight, bias);
    h.mul_(3.0);
    return h;
  });
  const auto gradients = session.gradients(output.sum());
  ASSERT_EQ(gradients.size(), 1U);
  ASSERT_TRUE(gradients[0].defined());
  EXPECT_TRUE(at::equal(gradients[0], at::full({2, 5, 3}, 3.0, at::kDouble)));
}

TEST(TapSession, GivesTheGradientOfAnAdditionIntoAView) {
  const at::Tensor shift = numbers({2}, 1), x = numbers({3, 6}, 2), factor = numbers({3, 6}, 3);
  TapSession session({{"shift", shift}}, kGradients);
  const at::Tensor output = session.run([&] {
    const at::Tensor h = x.clone();
    h.slice(1, 1, 6, 3).add_(shift);
    return h * factor;
  });
  const auto gradients = session.gradients(output.sum());
  ASSERT_EQ(gradients.size(), 1U);
  EXPECT_TRUE(at::equal(gradients[0], factor.slice(1, 1, 6, 3)));
}

TEST(TapSession, KeepsAnInputAsItWasWhenTheModelWritesIntoItLater) {
  const at::Tensor a = numbers({3, 4}, 1), b = numbers({3, 4}, 2), x = numbers({2, 4}, 3), before = x.clone();
  TapSession session({{"a", a}, {"b", b}}, {});
  session.run([&] {
    const at::Tensor h = at::linear(x, a) + at::linear(x, b);
    x.view({8}).mul_(5.0);
    return h;
  });
  ASSERT_EQ(session.calls().size(), 2U);
  EXPECT_TRUE(at::equal(session.calls()[0].input, before));
  EXPECT_TRUE(is_same_view(session.calls()[0].input, session.calls()[1].input)) << "one copy serves both";
}

TEST(TapSession, NamesOperatorsThatItDoesNotUnderstand) {
  const at::Tensor scale = numbers({4}, 1), weight = numbers({3, 4}, 2), x = numbers({2, 4}, 3);
  const at::Tensor kernel = numbers({4, 2, 3}, 4), norm = numbers({4}, 5), gates = numbers({8, 4}, 6),
                   loop = numbers({8, 2}, 7);
  TapSession session(
      {{"scale", scale}, {"weight", weight}, {"kernel", kernel}, {"norm", norm}, {"gates", gates}, {"loop", loop}},
      kGradients);
  session.run([&] {
    const at::Tensor h = at::einsum("ni,oi->n", {x / scale, weight.view({3, 4})});
    const at::Tensor c = at::conv_transpose1d(x.unsqueeze(2), kernel.slice(1, 0, 1));
    const at::Tensor n = at::batch_norm(x, norm, {}, {}, {}, true, 0.1, 1e-5, false);
    const at::Tensor state = at::zeros({1, 2, 2}, at::kDouble);
    const auto [r, last, cell] = at::lstm(x.unsqueeze(0), {state.narrow(1, 0, 1), state.narrow(1, 0, 1)}, {gates, loop},
                                          false, 1, 0.0, false, false, true);
    return h.sum() + c.sum() + n.sum() + r.sum();
  });
  EXPECT_TRUE(session.calls().empty());
  EXPECT_EQ(reason(session, "scale"), "aten::div");
  EXPECT_EQ(reason(session, "weight"), "aten::einsum other than a product with a matrix");
  EXPECT_EQ(reason(session, "gates"), "aten::lstm");
  EXPECT_EQ(reason(session, "loop"), "aten::lstm");
  EXPECT_EQ(reason(session, "kernel"), "aten::conv_transpose1d");
  EXPECT_EQ(reason(session, "norm"), "aten::batch_norm with the statistics of the batch");
}

TEST(TapSession, NamesWaysOfUsingAnOperatorThatItDoesNotUnderstand) {
  const at::Tensor a = numbers({4, 4}, 1), b = numbers({4}, 2), c = numbers({4, 4, 2}, 3), x = numbers({2, 4}, 4);
  TapSession session({{"a", a}, {"b", b}, {"c", c}}, kGradients);
  session.run([&] {
    const at::Tensor h = at::addmm(b, x, a, 1, 0.5);
    const at::Tensor d = at::conv1d(x.unsqueeze(2).expand({2, 4, 6}), c, {}, 1, "same");
    return at::add(h, b, 2).sum() + d.sum();
  });
  EXPECT_TRUE(session.calls().empty());
  EXPECT_EQ(reason(session, "a"), "aten::addmm with alpha other than 1");
  EXPECT_THAT(session.not_understood().at("b"), Contains("aten::add with alpha other than 1"));
  EXPECT_EQ(reason(session, "c"), "aten::conv1d with a padding that differs on the two sides");
}

TEST(TapSession, NamesComputationsWithParametersAlone) {
  const at::Tensor a = numbers({4}, 1), b = numbers({4}, 2), c = numbers({3, 4}, 3), x = numbers({2, 8}, 4);
  TapSession session({{"a", a}, {"b", b}, {"c", c}}, kGradients);
  session.run([&] {
    const at::Tensor weight = at::einsum("oi,i->oi", {c, a}) * at::cat({a, b}).slice(0, 0, 4);
    return at::linear(x, at::cat({c * at::ones({3, 4}, at::kDouble), weight}, 1));
  });
  EXPECT_TRUE(session.calls().empty());
  EXPECT_EQ(session.not_understood().at("a"), (std::set<std::string>{"aten::cat", "aten::einsum of two parameters"}));
  EXPECT_EQ(reason(session, "b"), "aten::cat");
  EXPECT_EQ(session.not_understood().at("c"), (std::set<std::string>{"aten::einsum of two parameters", "aten::mul"}));
}

TEST(TapSession, KeepsWhatIsMultipliedInPlace) {
  const at::Tensor scale = numbers({4}, 1), x = numbers({2, 4}, 2), before = x.clone();
  TapSession session({{"scale", scale}}, kGradients);
  session.run([&] {
    at::Tensor h = x * 1.0;
    return h.mul_(scale);
  });
  ASSERT_EQ(session.calls().size(), 1U);
  EXPECT_TRUE(at::equal(session.calls()[0].input, before));
}

TEST(TapSession, RunsWithoutAGraphWhereNobodyAsksForGradients) {
  const TapModel model = zoo_model("Linear");
  const auto runner = make_runner(model);
  TapSession session(runner->parameters(), {}, {.build_graph = false});
  const at::Tensor output = session.run([&] { return runner->forward(model.data); });
  EXPECT_FALSE(output.requires_grad());
  EXPECT_THAT(names_of(session.calls()), ElementsAre("first", "second"));
  EXPECT_TRUE(session.not_understood().empty());
  EXPECT_THROW(TapSession(runner->parameters(), kGradients, {.build_graph = false}), c10::Error);
}

TEST(TapSession, NamesWhatItDoesNotUnderstandAlsoWithoutAGraph) {
  const at::Tensor scale = numbers({4}, 1), x = numbers({2, 4}, 2);
  TapSession session({{"scale", scale}}, {}, {.build_graph = false});
  session.run([&] { return x / scale.view({1, 4}); });
  EXPECT_EQ(reason(session, "scale"), "aten::div");
}

TEST(TapSession, RecordsOnlyTheLayersAskedForAndAuditsAll) {
  const at::Tensor a = numbers({4, 4}, 1), b = numbers({4, 4}, 2), c = numbers({4}, 3), x = numbers({2, 4}, 4);
  LayerTable only;
  only.layers.emplace_back().name = "b";
  TapSession session({{"a", a}, {"b", b}, {"c", c}}, kGradients, {.only = &only});
  const at::Tensor output = session.run([&] { return at::linear(at::linear(x, a), b) / c; });
  EXPECT_THAT(names_of(session.calls()), ElementsAre("b"));
  EXPECT_EQ(session.gradients(output.sum()).size(), 1U);
  EXPECT_EQ(reason(session, "c"), "aten::div");
}

TEST(TapSession, RefusesAModelThatWritesIntoAParameterBeforeItDoes) {
  TapModel model = zoo_model("Linear");
  model.source = R"(
def forward(self, x):
    self.first.weight.detach().t()[0].mul_(0.9)
    return torch.linear(torch.linear(x, self.first.weight), self.second.weight)
)";
  const auto runner = make_runner(model);
  for (const bool graph : {true, false}) {
    TapSession session(runner->parameters(), {}, {.build_graph = graph});
    const std::string error = input_error_of([&] { session.run([&] { return runner->forward(model.data); }); });
    EXPECT_THAT(error, HasSubstr("writes into its parameter 'first.weight' when it runs (aten::mul_)"));
    EXPECT_TRUE(at::equal(runner->parameters().at("first.weight"), model.parameters[0].second));
  }
}

TEST(TapSession, RefusesAModelThatChangedAParameterUnseen) {
  const at::Tensor weight = numbers({3, 4}, 1), x = numbers({2, 4}, 2);
  TapSession session({{"weight", weight}}, kGradients);
  const std::string error = input_error_of([&] {
    session.run([&] {
      const c10::impl::ExcludeDispatchKeyGuard unseen(c10::DispatchKey::TESTING_ONLY_GenericMode);
      const at::NoGradGuard no_grad;
      weight.mul_(0.9);
      return at::linear(x, weight);
    });
  });
  EXPECT_THAT(error, HasSubstr("writes into its parameter 'weight' when it runs, so that"));
}

TEST(TapSession, FollowsViewsAndOperatorsThatTakeOnlyAShape) {
  const at::Tensor weight = numbers({3, 4}, 1), x = numbers({2, 4}, 2);
  TapSession session({{"weight", weight}}, kGradients);
  session.run([&] {
    const at::Tensor view = weight.to(at::kDouble).contiguous().t().transpose(0, 1);
    return at::linear(x.type_as(weight), view.view({3, 4}).chunk(1)[0]) + at::zeros_like(weight).sum();
  });
  EXPECT_EQ(session.calls().size(), 1U);
  EXPECT_TRUE(session.not_understood().empty());
}

TEST(TapSession, SaysThatTrainingHadOptimisedTheModel) {
  const TapModel model = zoo_model("Twice");
  const auto runner = make_runner(model);
  for (const auto& [name, parameter] : runner->parameters()) parameter.requires_grad_();
  for (int call = 0; call < 3; ++call) runner->forward(model.data).sum().backward();
  TapSession session(runner->parameters(), kGradients);
  session.run([&] { return runner->forward(model.data); });
  EXPECT_THAT(names_of(session.calls()), Not(Contains("shared")));
  EXPECT_THAT(reason(session, "shared.weight"), HasSubstr("open it afresh"));
}

TEST(TapSession, SeesAModelThatWasEvaluatedBefore) {
  const TapModel model = zoo_model("Twice");
  const auto runner = make_runner(model);
  {
    const at::NoGradGuard no_grad;
    for (int call = 0; call < 4; ++call) runner->forward(model.data);
  }
  TapSession session(runner->parameters(), kGradients);
  const at::Tensor output = session.run([&] { return runner->forward(model.data); });
  EXPECT_THAT(names_of(session.calls()), ElementsAre("shared", "shared", "head"));
  for (const at::Tensor& gradient : session.gradients(output.sum())) EXPECT_TRUE(gradient.defined());
}

}  // namespace
}  // namespace amalgam
