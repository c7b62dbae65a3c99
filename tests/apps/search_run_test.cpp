// Methods that search for coefficients with the models run: the probe's answers, and the methods by a recipe.
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <nlohmann/json.hpp>

#include "apps/model_probe.h"
#include "apps/run_folder.h"
#include "apps/scores.h"
#include "apps/small_run.h"
#include "core/atomic_file.h"
#include "core/error.h"
#include "core/random.h"
#include "core/safetensors.h"
#include "expect_error.h"
#include "models/runner.h"
#include "tests/apps/script_model.h"

namespace amalgam {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr double kEps32 = 1.1920929e-7;
constexpr int64_t kExamples = 60;
const std::vector<std::string> kTasks = {"left", "right"};

at::Tensor numbers(at::IntArrayRef shape, const std::string& label) {
  return at::randn(shape, RandomStream(11, label).generator());
}

/// tanh(x Wᵀ + b) Hᵀ, H private.
NamedTensors parameters_of(const std::string& model) {
  NamedTensors parameters;
  for (const auto& [name, shape] : std::vector<std::pair<std::string, std::vector<int64_t>>>{
           {"body.weight", {6, 4}}, {"body.bias", {6}}, {"head.weight", {3, 6}}}) {
    parameters[name] = numbers(shape, name);
    if (model != "base") parameters[name] += 0.6 * numbers(shape, model + "/" + name);
  }
  return parameters;
}

at::Tensor output_of(const NamedTensors& parameters, const at::Tensor& x) {
  return at::linear(x, parameters.at("body.weight"), parameters.at("body.bias"))
      .tanh()
      .matmul(parameters.at("head.weight").t());
}

constexpr const char* kRecipe = R"(name: searched
base: {{model: {0}/base.pt}}
private: ["head.*"]
tasks:
  - {{name: left, data: {{format: tensors, root: {0}/left}}, expert: {{model: {0}/left.pt}}}}
  - {{name: right, data: {{format: tensors, root: {0}/right}}, expert: {{model: {0}/right.pt}}}}
merge:
  - task_arithmetic
  - {{method: adamerging, steps: 20, rate: 0.02, batch: 7}}
  - {{method: cma_es, evaluations: 60, step: 0.3}}
)";

class SearchedRun : public testing::Test {
 protected:
  SearchedRun() {
    for (const std::string& name : {std::string("base"), kTasks[0], kTasks[1]}) {
      const NamedTensors parameters = parameters_of(name);
      script_model({parameters.begin(), parameters.end()}, R"(
def forward(self, x):
    a = torch.tanh(torch.linear(x, self.body.weight, self.body.bias))
    return torch.linear(a, self.head.weight)
)")
          ->save(folder_ / (name + ".pt"));
    }
    for (const std::string& task : kTasks)
      for (const std::string split : {"train", "val", "test"}) {
        const at::Tensor x = numbers({kExamples, 4}, task + split);
        // The expert's own classes, but for some noise, so that scores differ from 1.
        const at::Tensor noise = 0.5 * numbers({kExamples, 3}, task + split + "/noise");
        write_safetensors(folder_ / task / (split + ".safetensors"),
                          {{"input.0", x}, {"target", (output_of(parameters_of(task), x) + noise).argmax(1)}});
      }
    write_file(folder_ / "r.yaml", fmt::format(kRecipe, folder_.path().string()));
  }

  CommandResult call(const std::string& command, std::vector<std::string> arguments = {}) const {
    std::vector<std::string> all = {
        command, (folder_ / "r.yaml").string(), "--runs", (folder_ / "runs").string(), "--device", "cpu", "--quiet"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    return call_command(all);
  }
  std::filesystem::path run(const std::string& file) const { return folder_ / "runs/searched" / file; }
  NamedTensors merged(const std::string& stem) const {
    const SafetensorsFile file(run("merged/" + stem + ".safetensors"));
    NamedTensors result;
    for (const auto& [name, info] : file.infos()) result[name] = file.get(name).clone();
    return result;
  }
  json record(const std::string& stem) const { return json::parse(read_file(run("merged/" + stem + ".merge.json"))); }
  at::Tensor data(const std::string& task, const std::string& split, const std::string& tensor) const {
    return SafetensorsFile(folder_ / task / (split + ".safetensors")).get(tensor).clone();
  }
  double mean_on_val(const std::string& row) const {
    double mean = 0;
    for (const auto& line : read_scores(run("scores.jsonl")))
      if (line.method == row && line.split == "val") mean += line.normalised.value() / 2;
    return mean;
  }

  TemporaryFolder folder_;
};

/// Inputs of a batch as `ProbeBatch` says.
std::vector<int64_t> examples_of(const std::string& task, int64_t batch, int64_t number) {
  std::vector<int64_t> ids;
  for (int64_t i = number * batch; i < (number + 1) * batch; ++i)
    ids.push_back(
        RandomStream(0, "entropy/" + task)
            .permutation(kExamples, static_cast<uint64_t>(i / kExamples))[static_cast<size_t>(i % kExamples)]);
  return ids;
}

TEST_F(SearchedRun, AdaMergingIsTheNaiveDescentThroughTheExpertsHeads) {
  const CommandResult result = call("run");
  ASSERT_EQ(result.code, 0) << result.error;

  const at::AutoGradMode with_gradients(true);
  const std::vector<std::string> names = {"body.bias", "body.weight"};  // in the order of the model
  at::Tensor lambda = at::full({2, 2}, 0.3, at::kDouble).requires_grad_(), mean = at::zeros({2, 2}, at::kDouble),
             square = at::zeros({2, 2}, at::kDouble);
  const auto merge = [&](const std::string& task) {
    NamedTensors model;
    for (size_t p = 0; p < names.size(); ++p) {
      const at::Tensor base = parameters_of("base").at(names[p]).to(at::kDouble);
      at::Tensor sum = base;
      for (size_t m = 0; m < 2; ++m)
        sum = sum + lambda[static_cast<int64_t>(p)][static_cast<int64_t>(m)] *
                        (parameters_of(kTasks[m]).at(names[p]).to(at::kDouble) - base);
      model[names[p]] = sum;
    }
    model["head.weight"] = parameters_of(task).at("head.weight").to(at::kDouble);
    return model;
  };
  for (int step = 1; step <= 20; ++step) {
    at::Tensor loss = at::zeros({}, at::kDouble);
    for (const std::string& task : kTasks) {
      const at::Tensor x = data(task, "val", "input.0").index_select(0, at::tensor(examples_of(task, 7, step - 1)));
      const at::Tensor log_p = at::log_softmax(output_of(merge(task), x.to(at::kDouble)), 1);
      loss = loss - (log_p.exp() * log_p).sum(1).mean() / 2;
    }
    const at::Tensor slope = torch::autograd::grad({loss}, {lambda})[0];
    mean = 0.9 * mean + 0.1 * slope;
    square = 0.999 * square + 0.001 * slope.square();
    const at::Tensor move = mean / (1 - std::pow(0.9, step)) / ((square / (1 - std::pow(0.999, step))).sqrt() + 1e-8);
    lambda = (lambda.detach() - 0.02 * move).requires_grad_();
  }
  const json search = record("adamerging").at("report").at("search");
  EXPECT_EQ(search.at("groups"), json(names));
  EXPECT_EQ(search.at("tasks"), json(kTasks));
  for (size_t p = 0; p < 2; ++p)
    for (size_t m = 0; m < 2; ++m)  // float32 slopes, which Adam divides by their size
      EXPECT_NEAR(search.at("coefficients")[p][m].get<double>(),
                  lambda[static_cast<int64_t>(p)][static_cast<int64_t>(m)].item<double>(), 1e-4);
  EXPECT_EQ(record("adamerging").at("val_looks"), 0);
  EXPECT_EQ(merged("adamerging").size(), 2U);
}

TEST_F(SearchedRun, ConcreteLowersTheEntropyOfTheModelThatItIsScoredBy) {
  const CommandResult result =
      call("run", {"--set",
                   "merge=[task_arithmetic, {method: concrete, steps: 150, rate: 0.05, batch: 60, "
                   "coefficients: parameter, coefficient_steps: 20}]"});
  ASSERT_EQ(result.code, 0) << result.error;
  const auto entropy = [&](const std::string& stem) {
    double mean = 0;
    for (const std::string& task : kTasks) {
      NamedTensors model = merged(stem);
      model.merge(parameters_of(task));  // its head
      const at::Tensor log_p = at::log_softmax(output_of(model, data(task, "val", "input.0")).to(at::kDouble), 1);
      mean -= (log_p.exp() * log_p).sum(1).mean().item<double>() / 2;
    }
    return mean;
  };
  EXPECT_LT(entropy("concrete"), entropy("task_arithmetic") - 0.02);
  const json search = record("concrete").at("report").at("search");
  EXPECT_EQ(search.at("values").size(), 170U);
  EXPECT_EQ(record("concrete").at("val_looks"), 0);
  EXPECT_THAT(read_file(run("report.html")), HasSubstr("concrete: entropy on val by steps"));
}

TEST_F(SearchedRun, CmaEsFindsTheScoreThatTheScoresTell) {
  ASSERT_EQ(call("run").code, 0);
  const json made = record("cma_es"), search = made.at("report").at("search");
  double best = 0;
  for (const json& value : search.at("values")) best = std::max(best, value.get<double>());
  EXPECT_NEAR(mean_on_val("cma_es"), best, 1e-12);
  EXPECT_NEAR(mean_on_val("task_arithmetic"), search.at("values")[0].get<double>(), 1e-12);  // where it starts
  EXPECT_GT(best, mean_on_val("task_arithmetic"));
  EXPECT_EQ(made.at("val_looks"), search.at("val_looks"));
  EXPECT_EQ(search.at("spent").back(), search.at("val_looks"));
  const std::string page = read_file(run("report.html"));
  EXPECT_THAT(page, HasSubstr("cma_es: score on val by evaluations"));
  EXPECT_THAT(page, HasSubstr("adamerging: entropy on val by steps"));
  EXPECT_THAT(page, HasSubstr(fmt::format("{} evaluations of val", made.at("val_looks").get<int64_t>())));
}

TEST_F(SearchedRun, LeavesNoStateAndIsNotDoneAgain) {
  ASSERT_EQ(call("merge").code, 0);
  for (const auto& entry : std::filesystem::directory_iterator(run("merged")))
    EXPECT_NE(entry.path().extension(), ".search") << entry.path();
  const auto time = std::filesystem::last_write_time(run("merged/cma_es.safetensors"));
  ASSERT_EQ(call("merge").code, 0);
  EXPECT_EQ(std::filesystem::last_write_time(run("merged/cma_es.safetensors")), time);
}

TEST_F(SearchedRun, IsDoneAgainWhereTheExamplesItLooksAtChange) {
  ASSERT_EQ(call("merge").code, 0);
  const auto times = [&] {
    std::vector<std::filesystem::file_time_type> result;
    for (const std::string row : {"task_arithmetic", "adamerging", "cma_es"})
      result.push_back(std::filesystem::last_write_time(run("merged/" + row + ".safetensors")));
    return result;
  };
  const auto before = times();
  write_safetensors(folder_ / "left/val.safetensors",
                    {{"input.0", numbers({kExamples, 4}, "new")}, {"target", at::zeros({kExamples}, at::kLong)}});
  ASSERT_EQ(call("merge").code, 0);
  EXPECT_EQ(times()[0], before[0]);
  EXPECT_NE(times()[1], before[1]);
  EXPECT_NE(times()[2], before[2]);
}

TEST_F(SearchedRun, CountsTheLooksOfEverySettingOfASearchOverOptions) {
  ASSERT_EQ(call("merge", {"--method", "cma_es", "--set", "merge.cma_es.evaluations=10", "--set",
                           "merge.cma_es.search={start: [0.2, 0.4]}"})
                .code,
            0);
  const json made = record("cma_es");
  // 2 coefficients: 6 points a generation after the start's; and each result once more, to be compared.
  EXPECT_EQ(made.at("report").at("search").at("val_looks"), 7);
  EXPECT_EQ(made.at("val_looks"), 16);
}

TEST_F(SearchedRun, ASettingWhoseModelOverflowsCountsAsTheWorst) {
  for (const std::string& name : {std::string("base"), kTasks[0], kTasks[1]}) {
    const NamedTensors parameters = parameters_of(name);
    script_model({parameters.begin(), parameters.end()}, R"(
def forward(self, x):
    a = torch.exp(torch.linear(x, self.body.weight, self.body.bias))
    return torch.linear(a, self.head.weight)
)")
        ->save(folder_ / (name + ".pt"));
  }
  for (const std::string row : {"search: {scale: [300, 0.3]}", "search: {scale: [0.3, 300]}"}) {
    const CommandResult result = call("merge", {"--set", "merge=[{method: task_arithmetic, " + row + "}]"});
    ASSERT_EQ(result.code, 0) << result.error;
    const json made = record("task_arithmetic");
    for (const json& trial : made.at("search"))
      EXPECT_EQ(trial.at("mean").is_null(), trial.at("values").at("scale") == "300") << trial;
    EXPECT_EQ(YAML::Load(made.at("options").get<std::string>())["scale"].as<double>(), 0.3);
  }
}

TEST_F(SearchedRun, ASubsetLooksAtItsOwnTasksAlone) {
  const std::vector<std::string> protocol = {"--set", "protocol={subsets: 2, sizes: [1]}"};
  ASSERT_EQ(call("run", protocol).code, 0);
  const auto step = [&](const std::string& subject) { return RunFolder(run("")).step("protocol-" + subject); };
  const auto looks = [&](const std::string& subject) {
    return json::parse(read_file(step(subject))).at("details").at("val_looks").get<int64_t>();
  };
  EXPECT_GT(looks("cma_es-left"), 1);
  EXPECT_EQ(looks("cma_es-left") % 4, 1);  // 1 coefficient: 4 points a generation after the start's
  EXPECT_EQ(looks("adamerging-left"), 0);
  EXPECT_FALSE(std::filesystem::exists(run("merged/cma_es.search")));
  const auto times = [&](const std::string& task) {
    return std::pair{std::filesystem::last_write_time(step("cma_es-" + task)),
                     std::filesystem::last_write_time(step("adamerging-" + task))};
  };
  const auto left = times("left"), right = times("right");
  write_safetensors(folder_ / "right/val.safetensors",
                    {{"input.0", numbers({kExamples, 4}, "new")}, {"target", at::zeros({kExamples}, at::kLong)}});
  ASSERT_EQ(call("run", protocol).code, 0);
  EXPECT_EQ(times("left"), left);
  EXPECT_NE(times("right").first, right.first);
  EXPECT_NE(times("right").second, right.second);
}

TEST_F(SearchedRun, SeedsDrawOtherBatches) {
  ASSERT_EQ(
      call("merge", {"--set", "merge=[{method: adamerging, steps: 5, rate: 0.02, batch: 7, seeds: [0, 1]}]"}).code, 0);
  const auto values = [&](const std::string& row) {
    return record(file_stem(row)).at("report").at("search").at("values");
  };
  EXPECT_NE(values("adamerging, seed 0"), values("adamerging, seed 1"));
}

TEST_F(SearchedRun, NothingOfTestIsRead) {
  for (const std::string& task : kTasks) std::filesystem::remove(folder_ / task / "test.safetensors");
  const CommandResult result = call("merge", {"--set", "evaluate.splits=[val]"});
  EXPECT_EQ(result.code, 0) << result.error;
}

TEST_F(SearchedRun, RefusesBeforeAnyWork) {
  const auto error = [&](const std::vector<std::string>& arguments) {
    const CommandResult result = call("merge", arguments);
    EXPECT_EQ(result.code, 2);
    EXPECT_FALSE(std::filesystem::exists(run("merged")));
    return result.error;
  };
  EXPECT_THAT(error({"--set", "tasks.left.loss=mean_squared_error", "--set", "tasks.left.metric=r_squared"}),
              HasSubstr("'adamerging' goes by the entropy"));
  EXPECT_THAT(error({"--set", "tasks.left.loss=mean_squared_error", "--set", "tasks.left.metric=r_squared", "--set",
                     "merge=[concrete]"}),
              HasSubstr("'concrete' goes by the entropy"));
  EXPECT_THAT(error({"--set", "tasks.left.metric=perplexity"}), HasSubstr("merge.cma_es"));
  EXPECT_THAT(error({"--set", "donors=[{method: cma_es}]"}), HasSubstr("'cma_es' searches"));
  std::filesystem::remove(folder_ / "left/test.safetensors");
  EXPECT_THAT(error({"--set", "evaluate.splits=[val]", "--set", "merge.adamerging.split=test"}), HasSubstr("test"));
}

class ProbedSearch : public SearchedRun {
 protected:
  ProbedSearch() {
    for (const std::string& task : kTasks) {
      DataSpec spec;
      spec.format = "tensors";
      spec.root = (folder_ / task).string();
      data_.push_back(open_dataset(spec, Split::kVal, 0, task));
    }
  }
  ExpertProbe probe() {
    std::vector<ProbedExpert> experts;
    for (size_t m = 0; m < 2; ++m)
      experts.push_back({.task = kTasks[m],
                         .model = folder_ / (kTasks[m] + ".pt"),
                         .output = {},
                         .loss = {},
                         .data = data_[m].get(),
                         .parameters = &infos_,
                         .metric = "accuracy",
                         .split = [this, m](Split) -> const Dataset& { return *data_[m]; }});
    return {std::move(experts), {}, {}, 0, at::kCPU, silent_};
  }
  /// Of the model with the body of another one.
  double accuracy(const std::string& task, const NamedTensors& body) const {
    NamedTensors parameters = body;
    parameters.merge(parameters_of(task));
    return output_of(parameters, data(task, "val", "input.0"))
        .argmax(1)
        .eq(data(task, "val", "target"))
        .to(at::kDouble)
        .mean()
        .item<double>();
  }

  const at::NoGradGuard no_grad_;  // as while merging
  std::vector<std::unique_ptr<Dataset>> data_;
  std::map<std::string, TensorInfo> infos_;
  SilentProgress silent_;
};

TEST_F(ProbedSearch, ScoresByTheExpertsOwnScores) {
  ExpertProbe asked = probe();
  for (const std::string model : {"base", "left", "base"}) {  // an answer does not depend on the one before
    NamedTensors body = parameters_of(model);
    body.erase("head.weight");
    double expected = 0;
    for (const std::string& task : kTasks) expected += accuracy(task, body) / accuracy(task, {}) / 2;
    const ProbeScore found = asked.score(kTasks, body, [] {});
    EXPECT_NEAR(found.mean, expected, 1e-12) << model;
    EXPECT_FALSE(found.lower_is_better);
  }
}

TEST_F(ProbedSearch, HasNoScoreOfAModelWhoseOutputsAreNotFinite) {
  ExpertProbe asked = probe();
  NamedTensors body = parameters_of("base"), broken = {{"body.bias", at::full({6}, std::nan(""))}};
  body.erase("head.weight");
  const double before = asked.score(kTasks, body, [] {}).mean;
  EXPECT_TRUE(std::isnan(asked.score(kTasks, broken, [] {}).mean));
  EXPECT_EQ(asked.score(kTasks, body, [] {}).mean, before);
}

TEST_F(ProbedSearch, RefusesAnExpertWhoseOutputsAreNotFinite) {
  at::Tensor inputs = data("left", "val", "input.0");
  inputs[3][0] = std::nan("");
  write_safetensors(folder_ / "left/val.safetensors", {{"input.0", inputs}, {"target", data("left", "val", "target")}});
  DataSpec spec;
  spec.format = "tensors";
  spec.root = (folder_ / "left").string();
  data_[0] = open_dataset(spec, Split::kVal, 0, "left");
  ExpertProbe asked = probe();
  EXPECT_THAT(input_error_of([&] { asked.score({"left"}, {}, [] {}); }), HasSubstr("example 3"));
}

TEST_F(ProbedSearch, ScoresTheTasksThatItIsAskedAbout) {
  ExpertProbe asked = probe();
  NamedTensors body = parameters_of("base");
  body.erase("head.weight");
  EXPECT_NEAR(asked.score({"right"}, body, [] {}).mean, accuracy("right", body) / accuracy("right", {}), 1e-12);
  EXPECT_THAT(input_error_of([&] { asked.score({"middle"}, body, [] {}); }), HasSubstr("'middle'"));
}

TEST_F(ProbedSearch, TellsTheEntropyOfDrawnInputs) {
  ExpertProbe asked = probe();
  NamedTensors body = parameters_of("base");
  body.erase("head.weight");
  NamedTensors whole = body;
  whole.merge(parameters_of("right"));
  for (const uint64_t number : {0, 3, 8}) {  // 8: over the end of the first round
    const ProbeEntropy found = asked.entropy("right", body, {"body.bias"}, {"val", 7, number}, [] {});
    const at::Tensor x = data("right", "val", "input.0")
                             .index_select(0, at::tensor(examples_of("right", 7, static_cast<int64_t>(number))));
    const at::Tensor log_p = at::log_softmax(output_of(whole, x).to(at::kDouble), 1);
    EXPECT_NEAR(found.value, -(log_p.exp() * log_p).sum(1).mean().item<double>(), 100 * kEps32);
    EXPECT_EQ(found.gradient.size(), 1U);
  }
  EXPECT_THAT(input_error_of([&] { asked.entropy("middle", body, {}, {"val", 7, 0}, [] {}); }), HasSubstr("'middle'"));
}

TEST_F(ProbedSearch, NamesTheExampleWhoseOutputIsNotFinite) {
  ExpertProbe asked = probe();
  const NamedTensors body = {{"body.bias", at::full({6}, std::nan(""))}};
  EXPECT_THAT(input_error_of([&] {
                asked.entropy("left", body, {}, {"val", 7, 0}, [] {});
              }),
              HasSubstr(fmt::format("task 'left', example {} of val", examples_of("left", 7, 0)[0])));
}

}  // namespace
}  // namespace amalgam
