#include "models/collect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/ir/irparser.h>
#include <torch/library.h>

#include <limits>
#include <stdexcept>

#include "core/error.h"
#include "expect_error.h"
#include "models/labels.h"
#include "models/torchscript_runner.h"
#include "tests/models/tap_model_zoo.h"

namespace amalgam {
namespace {

using namespace test;

Recorder collect(ModelRunner& runner, const TapModel& model, int64_t batch, CollectOptions options = {},
                 ObserverNeeds needs = {.gradients = true}) {
  Recorder recorder(needs);
  BatchSlices source(model.data, batch);
  SilentProgress progress;
  const ScanResult scan = scan_layers(runner, model.data, options.loss);
  collect_observations(runner, scan, source, options, recorder, progress);
  return recorder;
}

class CollectFromEachModel : public ::testing::TestWithParam<std::tuple<size_t, Made>> {
 protected:
  TapModel model() const { return tap_model_zoo()[std::get<0>(GetParam())]; }
  Made made() const { return std::get<1>(GetParam()); }
};

TEST_P(CollectFromEachModel, GivesTheGradientOfEachExampleAtEveryBatchSize) {
  const TapModel model = this->model();
  const NamedTensors expected = autograd_by_example(model);
  const auto runner = make_runner(model, made());
  for (const int64_t batch : {1, 3, 8}) {
    const Recorder recorder = collect(*runner, model, batch);
    const NamedTensors observed = gradients_by_example(recorder, runner->parameters());
    for (const auto& [name, gradient] : expected) {
      ASSERT_TRUE(observed.contains(name)) << name << " was not observed";
      EXPECT_TRUE(nearly_equal(observed.at(name), gradient)) << name << " in batches of " << batch;
    }
  }
}

TEST_P(CollectFromEachModel, LeavesTheModelAsItWas) {
  const TapModel model = this->model();
  const auto runner = make_runner(model, made());
  collect(*runner, model, 3);
  const NamedTensors parameters = runner->parameters();
  for (const auto& [name, tensor] : model.parameters) {
    EXPECT_TRUE(at::equal(parameters.at(name), tensor)) << name;
    EXPECT_FALSE(parameters.at(name).requires_grad()) << name;
    EXPECT_FALSE(parameters.at(name).grad().defined()) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(, CollectFromEachModel,
                         ::testing::Combine(::testing::Range(size_t{0}, tap_model_zoo().size()),
                                            ::testing::Values(Made::kScripted, Made::kTraced)),
                         [](const auto& instance) {
                           return tap_model_zoo()[std::get<0>(instance.param)].name +
                                  (std::get<1>(instance.param) == Made::kScripted ? "Scripted" : "Traced");
                         });

TEST(Collect, ShowsInputsAndOutputsAsTheyWereBeforeTheModelWroteIntoThem) {
  const TapModel model = zoo_model("Tokens");
  const auto runner = make_runner(model);
  const Recorder recorder = collect(*runner, model, 8, {}, {.gradients = true, .outputs = true});
  const auto& seen = recorder.batches[0];
  ASSERT_EQ(seen.size(), 2U);
  const NamedTensors p = runner->parameters();
  const at::Tensor first = at::linear(model.data.inputs[0], p.at("first.weight"), p.at("first.bias"));
  EXPECT_TRUE(at::equal(seen[0].uses[0].output, first));
  EXPECT_TRUE(at::equal(seen[1].uses[0].input, at::relu(first) * 2.0));
}

TEST(Collect, WithoutGradientsShowsTheSameInputsAndNoBiases) {
  const TapModel model = zoo_model("Added");
  const auto runner = make_runner(model);
  const Recorder with = collect(*runner, model, 3), without = collect(*runner, model, 3, {}, {});
  ASSERT_EQ(without.counts, (std::vector<int64_t>{3, 3, 2}));
  for (size_t b = 0; b < 3; ++b) {
    ASSERT_EQ(without.batches[b].size(), 1U);
    ASSERT_EQ(with.batches[b].size(), 4U);
    const LayerUse& use = without.batches[b][0].uses[0];
    EXPECT_TRUE(at::equal(use.input, with.batches[b][2].uses[0].input));
    EXPECT_FALSE(use.output_gradient.defined());
    EXPECT_FALSE(use.output.defined());
  }
}

/// Tells of each run whether it built a graph.
class GraphWatcher final : public ModelRunner {
 public:
  explicit GraphWatcher(std::unique_ptr<ModelRunner> model) : model_(std::move(model)) {}
  const std::vector<std::string>& parameter_names() const override { return model_->parameter_names(); }
  const std::map<std::string, std::string>& aliases() const override { return model_->aliases(); }
  NamedTensors parameters() const override { return model_->parameters(); }
  NamedTensors buffers() const override { return model_->buffers(); }
  void set(const NamedTensors& values) override { model_->set(values); }
  at::Tensor forward(const Batch& batch) override {
    const at::Tensor output = model_->forward(batch);
    built.push_back(output.requires_grad());
    return output;
  }
  void set_training(bool on) override { model_->set_training(on); }
  at::Device device() const override { return model_->device(); }
  void save(const std::filesystem::path& path) const override { model_->save(path); }

  std::vector<bool> built;

 private:
  std::unique_ptr<ModelRunner> model_;
};

TEST(Collect, BuildsAGraphOnlyWhereItIsNeededAndSeesTheSame) {
  const TapModel model = zoo_model("Tokens");
  GraphWatcher runner(make_runner(model));
  ScanResult scan = scan_layers(runner, model.data, "cross_entropy");
  std::vector<bool> expected(runner.built.size(), true);  // each example alone, and all together
  expected.back() = false;                                // then once more without
  EXPECT_EQ(runner.built, expected);
  ASSERT_FALSE(scan.needs_graph);
  std::vector<Recorder> seen;
  for (const bool needs_graph : {false, true}) {
    scan.needs_graph = needs_graph;
    runner.built.clear();
    BatchSlices source(model.data, 8);
    SilentProgress progress;
    collect_observations(runner, scan, source, {}, seen.emplace_back(ObserverNeeds{.outputs = true}), progress);
    EXPECT_EQ(runner.built, std::vector<bool>{needs_graph});
  }
  ASSERT_EQ(seen[0].batches[0].size(), 2U);
  for (size_t i = 0; i < 2; ++i) {
    const LayerUse &without = seen[0].batches[0][i].uses[0], &with = seen[1].batches[0][i].uses[0];
    EXPECT_TRUE(at::equal(without.input, with.input));
    EXPECT_TRUE(at::equal(without.output, with.output));
  }
}

TEST(Collect, ShowsSomeLayersOnlyWhereTheScanIsCutToThem) {
  const TapModel model = zoo_model("Packed");
  const auto runner = make_runner(model);
  const ScanResult all = scan_layers(*runner, model.data, "cross_entropy");
  const Recorder whole = collect(*runner, model, 8);
  for (size_t i = 0; i < all.layers.layers.size(); ++i) {
    ScanResult one = all;
    one.layers.layers = {all.layers.layers[i]};
    one.layouts = {all.layouts[i]};
    Recorder recorder;
    BatchSlices source(model.data, 8);
    SilentProgress progress;
    collect_observations(*runner, one, source, {}, recorder, progress);
    ASSERT_EQ(recorder.batches[0].size(), 1U);
    const LayerUse &use = recorder.batches[0][0].uses[0], &expected = whole.batches[0][i].uses[0];
    EXPECT_TRUE(at::equal(use.input, expected.input));
    EXPECT_TRUE(at::equal(use.output_gradient, expected.output_gradient));
  }
}

TEST(Collect, PassesTheMaskOnWhereRowsMatch) {
  const TapModel model = zoo_model("Masked");
  const auto runner = make_runner(model);
  const Recorder recorder = collect(*runner, model, 8);
  const auto& seen = recorder.batches[0];
  EXPECT_TRUE(at::equal(seen[0].uses[0].mask, model.data.mask));
  EXPECT_FALSE(seen[1].uses[0].mask.defined());
}

TEST(Collect, SaysWhereNoLayerHasTheRowsOfTheMask) {
  TapModel model = zoo_model("Masked");
  const auto runner = make_runner(model);
  const ScanResult scan = scan_layers(*runner, model.data, "cross_entropy");
  for (const int64_t length : {5, 3}) {
    model.data.mask = at::ones({8, length}, at::kBool);
    Recorder recorder;
    BatchSlices source(model.data, 4);
    Messages progress;
    collect_observations(*runner, scan, source, {.task = "left"}, recorder, progress);
    if (length == 5) {
      EXPECT_THAT(progress.texts, ::testing::IsEmpty());
    } else {
      EXPECT_THAT(progress.texts, ::testing::ElementsAre(
                                      "task 'left': the data's mask has 3 positions an example, and layer 'first' has "
                                      "5 rows; no layer has as many rows as the mask, so every row counts"));
    }
  }
}

TEST(Collect, ShowsIndicesOfAnyIntegersAsInt64) {
  TapModel model = zoo_model("Embedding");
  const at::Tensor words = model.data.inputs[0];
  model.data.inputs[0] = words.to(at::kInt);
  const auto runner = make_runner(model);
  const Recorder recorder = collect(*runner, model, 8);
  const LayerUse& use = recorder.batches[0][0].uses[0];
  EXPECT_EQ(use.input.scalar_type(), at::kLong);
  EXPECT_TRUE(at::equal(use.input, words));
}

TEST(Collect, ShowsAUseThatTheLossDoesNotReachWithZeroGradients) {
  TapModel model = zoo_model("Linear");
  model.source = R"(
def forward(self, x):
    h = torch.linear(x, self.first.weight, self.first.bias)
    aside = torch.linear(x * 2.0, self.first.weight, self.first.bias)
    return torch.linear(h + 0.0 * aside.detach(), self.second.weight)
)";
  const auto runner = make_runner(model);
  const Recorder recorder = collect(*runner, model, 8);
  const auto& uses = recorder.batches[0][0].uses;
  ASSERT_EQ(uses.size(), 2U);
  EXPECT_TRUE(uses[0].output_gradient.ne(0).any().item<bool>());
  EXPECT_FALSE(uses[1].output_gradient.ne(0).any().item<bool>());
}

TEST(Collect, ExactLabelsAddUpToTheSumOverClassesByHand) {
  const TapModel model = zoo_model("Linear");
  const auto runner = make_runner(model);
  const Recorder recorder = collect(*runner, model, 8, {.labels = LabelMode::kExact});
  ASSERT_EQ(recorder.batches[0].size(), 2U * 3U);
  at::Tensor squares = at::zeros({3, 3}, at::kDouble);  // Σ g gᵀ at the last layer
  for (size_t i = 0; i < 6; ++i) {
    const auto& seen = recorder.batches[0][i];
    EXPECT_EQ(seen.repeated, i >= 2);
    if (seen.layer.name != "second") continue;
    const at::Tensor g = seen.uses[0].output_gradient.squeeze(1);  // [N, C]
    squares += g.t().mm(g);
  }
  // By the output the gradient of −log p_c is p − e_c, and Σ_c p_c (p − e_c)(p − e_c)ᵀ = diag(p) − p pᵀ.
  const at::Tensor p = runner->forward(model.data).softmax(1);
  EXPECT_TRUE(nearly_equal(squares, at::diag(p.sum(0)) - p.t().mm(p)));
}

TEST(Collect, SampledLabelsAreDrawnBySeedTaskAndExampleInEveryBatchSize) {
  const TapModel model = zoo_model("Linear");
  const auto runner = make_runner(model);
  const at::Tensor output = runner->forward(model.data);
  const auto drawn = [&](uint64_t seed, const std::string& task) {
    return sampled_targets({}, output, model.data.target, model.data.ids, RandomStream(seed, "labels/" + task));
  };
  const at::Tensor labels = drawn(3, "left");
  for (const at::Tensor& other : {model.data.target, drawn(4, "left"), drawn(3, "right")})
    ASSERT_FALSE(at::equal(labels, other));
  const at::Tensor expected = output.softmax(1) - at::one_hot(labels, 3);  // at the last layer
  for (const int64_t batch : {1, 3, 8}) {
    const Recorder recorder =
        collect(*runner, model, batch, {.labels = LabelMode::kSampled, .seed = 3, .task = "left"});
    std::vector<at::Tensor> gradients;
    for (size_t b = 0; b < recorder.counts.size(); ++b)
      gradients.push_back(recorder.batches[b].at(1).uses[0].output_gradient.squeeze(1));
    EXPECT_TRUE(nearly_equal(at::cat(gradients), expected)) << "in batches of " << batch;
  }
}

TEST(Collect, NamesTaskBatchExampleAndLayerOfAnOutputThatIsNotFinite) {
  TapModel model = zoo_model("Linear");
  const auto runner = make_runner(model);
  const ScanResult scan = scan_layers(*runner, model.data, "cross_entropy");
  model.data.inputs[0][5][0] = std::numeric_limits<double>::quiet_NaN();
  for (const bool gradients : {false, true}) {
    Recorder recorder({.gradients = gradients});
    BatchSlices source(model.data, 3);
    SilentProgress progress;
    try {
      collect_observations(*runner, scan, source, {.task = "left"}, recorder, progress);
      FAIL() << "accepted";
    } catch (const InputError& error) {
      EXPECT_THAT(error.what(),
                  ::testing::HasSubstr("task 'left', batch 1 (from example 3 on), example 105 of the split: "));
      EXPECT_THAT(error.what(), ::testing::HasSubstr("example 2 of the batch"));
      EXPECT_THAT(error.what(),
                  ::testing::HasSubstr("the first layer that is fed values that are not finite is 'first'"));
    }
  }
}

TEST(Collect, NamesTheLayerAfterTheOneWhoseWeightOverflows) {
  TapModel model = zoo_model("Linear");
  const auto runner = make_runner(model);
  const ScanResult scan = scan_layers(*runner, model.data, "cross_entropy");
  runner->parameters().at("first.bias").fill_(std::numeric_limits<double>::infinity());
  Recorder recorder;
  BatchSlices source(model.data, 3);
  SilentProgress progress;
  EXPECT_THAT(input_error_of([&] { collect_observations(*runner, scan, source, {}, recorder, progress); }),
              ::testing::HasSubstr("not finite is 'second'"));
}

TEST(Collect, NamesTheExampleOfATargetOutOfRange) {
  TapModel model = zoo_model("Linear");
  const auto runner = make_runner(model);
  const ScanResult scan = scan_layers(*runner, model.data, "cross_entropy");
  model.data.target[7] = 3;
  Recorder recorder;
  BatchSlices source(model.data, 3);
  SilentProgress progress;
  EXPECT_THAT(input_error_of([&] { collect_observations(*runner, scan, source, {}, recorder, progress); }),
              ::testing::AllOf(::testing::HasSubstr("batch 2 (from example 6 on), example 107 of the split: "),
                               ::testing::HasSubstr("target 3 of example 1 of the batch")));
}

/// A model on a device that has room for so many examples, which it says in the forward or in a backward pass.
class CrampedRunner final : public ModelRunner {
 public:
  CrampedRunner(std::unique_ptr<ModelRunner> model, int64_t examples) : room(examples), model_(std::move(model)) {}

  const std::vector<std::string>& parameter_names() const override { return model_->parameter_names(); }
  const std::map<std::string, std::string>& aliases() const override { return model_->aliases(); }
  NamedTensors parameters() const override { return model_->parameters(); }
  NamedTensors buffers() const override { return model_->buffers(); }
  void set(const NamedTensors& values) override { model_->set(values); }
  at::Tensor forward(const Batch& batch) override {
    tried.push_back(batch.count);
    if (failing_pass < 0) require_room(batch.count);
    const at::Tensor output = model_->forward(batch);
    passes_ = 0;
    if (failing_pass >= 0)
      output.register_hook([this, examples = batch.count](const at::Tensor&) {
        if (passes_++ == failing_pass) require_room(examples);
      });
    return output;
  }
  void set_training(bool on) override { model_->set_training(on); }
  at::Device device() const override { return model_->device(); }
  void save(const std::filesystem::path& path) const override { model_->save(path); }

  int64_t room;
  int64_t failing_pass = -1;   ///< the backward pass that finds no room; -1: the forward pass does
  std::vector<int64_t> tried;  ///< examples of each forward pass

 private:
  void require_room(int64_t examples) const {
    TORCH_CHECK_WITH(OutOfMemoryError, examples <= room, "no room for ", examples, " examples");
  }

  std::unique_ptr<ModelRunner> model_;
  int64_t passes_ = 0;
};

TEST(Collect, HalvesABatchThatTheDeviceHasNoRoomForAndKeepsTheSmallerSize) {
  const TapModel model = zoo_model("Linear");
  for (const int64_t failing_pass : {-1, 0}) {
    CrampedRunner runner(make_runner(model), 8);
    const ScanResult scan = scan_layers(runner, model.data, "cross_entropy");
    runner.room = 2;
    runner.failing_pass = failing_pass;
    runner.tried.clear();
    Recorder recorder;
    BatchSlices source(model.data, 5);
    Messages progress;
    collect_observations(runner, scan, source, {.task = "left"}, recorder, progress);
    EXPECT_EQ(runner.tried, (std::vector<int64_t>{5, 3, 2, 2, 1, 2, 1}));
    EXPECT_EQ(recorder.counts, (std::vector<int64_t>{2, 2, 1, 2, 1}));
    ASSERT_EQ(progress.texts.size(), 2U);
    EXPECT_EQ(
        progress.texts[0],
        "task 'left', batch 0 (from example 0 on): the device has no room for 5 examples at once; going on with 3");
    const NamedTensors observed = gradients_by_example(recorder, runner.parameters());
    for (const auto& [name, gradient] : autograd_by_example(model))
      EXPECT_TRUE(nearly_equal(observed.at(name), gradient)) << name;
  }
}

TEST(Collect, NamesTheExampleOfAPartOfABatch) {
  TapModel model = zoo_model("Linear");
  CrampedRunner runner(make_runner(model), 8);
  const ScanResult scan = scan_layers(runner, model.data, "cross_entropy");
  runner.room = 2;
  model.data.target[3] = 9;
  Recorder recorder;
  BatchSlices source(model.data, 8);
  SilentProgress progress;
  EXPECT_THAT(input_error_of([&] { collect_observations(runner, scan, source, {}, recorder, progress); }),
              ::testing::HasSubstr("example 103 of the split"));
}

TEST(Collect, RefusesASingleExampleThatTheDeviceHasNoRoomFor) {
  const TapModel model = zoo_model("Linear");
  CrampedRunner runner(make_runner(model), 8);
  const ScanResult scan = scan_layers(runner, model.data, "cross_entropy");
  runner.room = 0;
  Recorder recorder;
  BatchSlices source(model.data, 4);
  SilentProgress progress;
  EXPECT_THAT(input_error_of([&] { collect_observations(runner, scan, source, {}, recorder, progress); }),
              ::testing::HasSubstr("no room for a single example"));
}

TEST(Collect, RefusesToHalveABatchThatWasShownInPart) {
  const TapModel model = zoo_model("Linear");
  CrampedRunner runner(make_runner(model), 8);
  const ScanResult scan = scan_layers(runner, model.data, "cross_entropy");
  runner.room = 2;
  runner.failing_pass = 1;  // the second class of the exact labels
  Recorder recorder;
  BatchSlices source(model.data, 4);
  SilentProgress progress;
  EXPECT_THAT(input_error_of([&] {
                collect_observations(runner, scan, source, {.labels = LabelMode::kExact}, recorder, progress);
              }),
              ::testing::HasSubstr("a smaller `statistics.batch`"));
}

at::Tensor allocate(const at::Tensor& x, int64_t room) {
  TORCH_CHECK_WITH(OutOfMemoryError, x.size(0) <= room, "CUDA out of memory. Tried to allocate 64.00 GiB.");
  return x * 1.0;
}
const auto registered = torch::RegisterOperators().op("amalgam_test::allocate", &allocate);

/// A module with a method `allocate` that calls the operator above: code given from C++ cannot name it.
torch::jit::Module module_that_allocates(TapModel model) {
  const std::string forward = model.source;
  model.source = "def unused(self, x):\n    return x\n";
  torch::jit::Module module = make_module(model, Made::kScripted);
  const auto graph = std::make_shared<torch::jit::Graph>();
  torch::jit::parseIR(R"IR(
graph(%self, %x : Tensor):
  %room : int = prim::Constant[value=3]()
  %y : Tensor = amalgam_test::allocate(%x, %room)
  return (%y)
)IR",
                      graph.get());
  graph->inputs()[0]->setType(module.type());
  const c10::QualifiedName name(*module.type()->name(), "allocate");
  module.type()->addMethod(module._ivalue()->compilation_unit()->create_function(name, graph));
  module.define(forward);
  return module;
}

TEST(Collect, HalvesABatchAlsoWhereTheModelsCodeRanOutOfMemory) {
  TapModel model = zoo_model("Linear");
  model.source = R"(
def forward(self, x):
    h = torch.relu(torch.linear(self.allocate(x), self.first.weight, self.first.bias))
    return torch.linear(h, self.second.weight)
)";
  const auto runner = runner_from_module(module_that_allocates(model));
  const ScanResult scan = scan_layers(*runner, model.data, "cross_entropy");
  Recorder recorder;
  BatchSlices source(model.data, 8);
  SilentProgress progress;
  collect_observations(*runner, scan, source, {}, recorder, progress);
  EXPECT_EQ(recorder.counts, (std::vector<int64_t>{2, 2, 2, 2}));
}

TEST(Collect, LetsWhatTheObserverThrowsTravelOutAndPutsTheModelBack) {
  class Refusing final : public LayerObserver {
   public:
    ObserverNeeds needs() const override { return {.gradients = true}; }
    void observe(const LayerObservation&) override { throw std::domain_error("no"); }
    void end_batch(int64_t) override {}
  } observer;
  const TapModel model = zoo_model("Linear");
  const auto runner = make_runner(model);
  const ScanResult scan = scan_layers(*runner, model.data, "cross_entropy");
  BatchSlices source(model.data, 3);
  SilentProgress progress;
  EXPECT_THROW(collect_observations(*runner, scan, source, {}, observer, progress), std::domain_error);
  EXPECT_FALSE(runner->parameters().at("first.weight").requires_grad());
}

TEST(Collect, CountsExamplesAndTellsProgress) {
  class Counting final : public Progress {
   public:
    void begin(const std::string&, int64_t total) override { seen.push_back(total); }
    void update(int64_t done, const std::string&) override { seen.push_back(done); }
    void end(const std::string&) override { seen.push_back(-1); }
    void message(const std::string&) override {}
    std::vector<int64_t> seen;
  } progress;
  const TapModel model = zoo_model("Linear");
  const auto runner = make_runner(model);
  const ScanResult scan = scan_layers(*runner, model.data, "cross_entropy");
  Recorder recorder;
  BatchSlices source(model.data, 3);
  const CollectResult result = collect_observations(*runner, scan, source, {}, recorder, progress);
  EXPECT_EQ(result.examples, 8);
  EXPECT_EQ(result.batches, 3);
  EXPECT_EQ(progress.seen, (std::vector<int64_t>{8, 3, 6, 8, -1}));
}

TEST(Collect, RefusesAModelThatUsesAParameterInAnotherWayInALaterBatch) {
  TapModel model = zoo_model("Linear");
  model.source = R"(
def forward(self, x):
    w = self.first.weight
    if bool((x > 100.0).any()):
        w = w * 2.0
    return torch.linear(torch.linear(x, w, self.first.bias), self.second.weight)
)";
  const auto runner = make_runner(model);
  const ScanResult scan = scan_layers(*runner, model.data, "cross_entropy");
  model.data.inputs[0][6][0] = 1000.0;
  Recorder recorder;
  BatchSlices source(model.data, 3);
  SilentProgress progress;
  try {
    collect_observations(*runner, scan, source, {}, recorder, progress);
    FAIL() << "accepted";
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("'first.weight' is now used by aten::mul"));
  }
}

}  // namespace
}  // namespace amalgam
