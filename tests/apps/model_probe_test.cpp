// Methods that run the models while they merge: the probe by itself, and `regmean++` by a recipe.
#include "apps/model_probe.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apps/small_run.h"
#include "core/atomic_file.h"
#include "core/error.h"
#include "core/random.h"
#include "core/safetensors.h"
#include "models/runner.h"
#include "tests/apps/script_model.h"

namespace amalgam {
namespace {

using ::testing::HasSubstr;

constexpr double kEps32 = 1.1920929e-7;
constexpr int64_t kExamples = 90;
const std::vector<std::string> kTasks = {"left", "right"};

at::Tensor numbers(at::IntArrayRef shape, const std::string& label) {
  return at::randn(shape, RandomStream(7, label).generator());
}

/// The base, with a change of its own for each task: "scale" is no layer, "head" is private.
NamedTensors parameters_of(const std::string& model) {
  NamedTensors parameters;
  const auto add = [&](const std::string& name, at::IntArrayRef shape, double spread) {
    parameters[name] = numbers(shape, name) * spread;
    if (model != "base") parameters[name] += 0.3 * spread * numbers(shape, model + "/" + name);
  };
  add("first.weight", {7, 5}, 0.5);
  add("first.bias", {7}, 0.5);
  add("second.weight", {6, 7}, 0.5);
  add("second.bias", {6}, 0.5);
  add("gate.weight", {6, 7}, 0.5);
  add("gate.bias", {6}, 0.5);
  add("third.weight", {6, 6}, 0.5);
  add("third.bias", {6}, 0.5);
  add("scale", {7}, 1.0);
  add("head.weight", {3, 6}, 0.5);
  return parameters;
}

std::unique_ptr<ModelRunner> model_of(const std::string& name) {
  const NamedTensors parameters = parameters_of(name);
  return script_model({parameters.begin(), parameters.end()}, R"(
def forward(self, x) -> Dict[str, Tensor]:
    a = torch.tanh(torch.linear(x, self.first.weight, self.first.bias)) * self.scale
    b = torch.tanh(torch.linear(a, self.second.weight, self.second.bias))
    b = b * torch.sigmoid(torch.linear(a, self.gate.weight, self.gate.bias))
    c = torch.tanh(torch.linear(b, self.third.weight, self.third.bias))
    return {'first': x, 'second': a, 'gate': a, 'third': b, 'logits': torch.linear(c, self.head.weight)}
)");
}

constexpr const char* kRecipe = R"(name: probed
output: logits
base: {{model: {0}/base.pt}}
private: ["head.*"]
tasks:
  - {{name: left, weight: 2.0, data: {{format: tensors, root: {0}/left}}, expert: {{model: {0}/left.pt}}}}
  - {{name: right, data: {{format: tensors, root: {0}/right}}, expert: {{model: {0}/right.pt}}}}
statistics: {{products: float64, batch: 32}}
merge:
  - {{method: regmean, off_diagonal: 0.95, ridge: 0}}
  - {{method: regmean++, ridge: 0}}
  - {{method: regmean++, name: searched, search: {{off_diagonal: [0.5, 0.95]}}}}
)";

class Probed : public testing::Test {
 protected:
  Probed() {
    model_of("base")->save(folder_ / "base.pt");
    for (const std::string& task : kTasks) {
      model_of(task)->save(folder_ / (task + ".pt"));
      for (const std::string split : {"train", "val", "test"})
        write_safetensors(folder_ / task / (split + ".safetensors"),
                          {{"input.0", numbers({kExamples, 5}, task + split) + (task == "left" ? 0.5 : -0.5)},
                           {"target", at::arange(kExamples).remainder(3)}});
    }
    write_file(folder_ / "r.yaml", fmt::format(kRecipe, folder_.path().string()));
  }

  CommandResult call(const std::string& command, std::vector<std::string> arguments = {}) const {
    std::vector<std::string> all = {
        command, (folder_ / "r.yaml").string(), "--runs", (folder_ / "runs").string(), "--device", "cpu"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    return call_command(all);
  }
  std::filesystem::path run(const std::string& file) const { return folder_ / "runs/probed" / file; }
  NamedTensors merged(const std::string& stem) const {
    const SafetensorsFile file(run("merged/" + stem + ".safetensors"));
    NamedTensors result;
    for (const auto& [name, info] : file.infos()) result[name] = file.get(name).clone();
    return result;
  }
  at::Tensor examples(const std::string& task) const {
    return SafetensorsFile(folder_ / task / "train.safetensors").get("input.0").clone();
  }

  TemporaryFolder folder_;
};

at::Tensor matrix(const NamedTensors& tensors, const std::string& layer) {
  return at::cat({tensors.at(layer + ".weight"), tensors.at(layer + ".bias").unsqueeze(1)}, 1).to(at::kDouble);
}

double difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

/// [x, 1] of every example, float64.
at::Tensor rows_of(const at::Tensor& x) { return at::cat({x, at::ones({x.size(0), 1})}, 1).to(at::kDouble); }

/// What the layer is fed for these examples in a TorchScript file with some parameters replaced.
at::Tensor inputs_of(const std::filesystem::path& model, const NamedTensors& replaced, const std::string& layer,
                     const at::Tensor& x) {
  torch::jit::Module module = torch::jit::load(model.string());
  const at::NoGradGuard no_grad;
  for (const auto& parameter : module.named_parameters())
    if (const auto found = replaced.find(parameter.name); found != replaced.end())
      parameter.value.data().copy_(found->second);
  return module.forward({x}).toGenericDict().at(layer).toTensor();
}

/// The algorithm, by passes through the experts' TorchScript files, one layer after the other (`gate` and `second` are
/// fed the same, so that neither changes the other's inputs).
NamedTensors naive(const std::function<std::filesystem::path(const std::string&)>& file_of,
                   const std::map<std::string, at::Tensor>& examples, const std::map<std::string, double>& weights) {
  NamedTensors merged;
  double total = 0;
  at::Tensor scale = at::zeros({7}, at::kDouble);
  for (const std::string& task : kTasks) {
    scale += weights.at(task) * parameters_of(task).at("scale").to(at::kDouble);
    total += weights.at(task);
  }
  merged["scale"] = (scale / total).to(at::kFloat);
  for (const std::vector<std::string>& block :
       std::vector<std::vector<std::string>>{{"first"}, {"second", "gate"}, {"third"}}) {
    NamedTensors solved;
    for (const std::string& layer : block) {
      at::Tensor left, right;
      for (const std::string& task : kTasks) {
        const at::Tensor a = rows_of(inputs_of(file_of(task), merged, layer, examples.at(task)));
        const at::Tensor plain = a.t().mm(a) / kExamples;
        const at::Tensor gram = weights.at(task) * (0.95 * plain + 0.05 * at::diag(plain.diag()));
        const at::Tensor product = matrix(parameters_of(task), layer).mm(gram);
        left = left.defined() ? left + gram : gram;
        right = right.defined() ? right + product : product;
      }
      const at::Tensor solution = right.mm(at::linalg_inv(left)).to(at::kFloat);
      const int64_t in = solution.size(1) - 1;
      solved[layer + ".weight"] = solution.slice(1, 0, in).contiguous();
      solved[layer + ".bias"] = solution.select(1, in).contiguous();
    }
    merged.insert(solved.begin(), solved.end());
  }
  return merged;
}

TEST_F(Probed, RegMeanPlusPlusIsTheNaiveAlgorithmThroughTheExpertsFiles) {
  const CommandResult result = call("merge");
  ASSERT_EQ(result.code, 0) << result.error;
  EXPECT_THAT(result.error, HasSubstr("3 blocks one after the other"));
  const NamedTensors plain = merged("regmean"), plus = merged("regmean++");

  // The first layer is fed the examples themselves: there it is RegMean.
  for (const char* name : {"first.weight", "first.bias"}) EXPECT_TRUE(at::equal(plain.at(name), plus.at(name))) << name;
  EXPECT_GT(difference(matrix(plain, "second"), matrix(plus, "second")), 1e-3);

  const NamedTensors expected =
      naive([&](const std::string& task) { return folder_ / (task + ".pt"); },
            {{"left", examples("left")}, {"right", examples("right")}}, {{"left", 2.0}, {"right", 1.0}});
  // Activations are float32, and so is what is stored; the Gram matrices' condition is below 100.
  for (const auto& [name, tensor] : expected) EXPECT_LE(difference(plus.at(name), tensor), 200 * kEps32) << name;
  EXPECT_FALSE(plus.contains("head.weight"));

  const auto record = nlohmann::json::parse(read_file(run("merged/searched.merge.json")));
  EXPECT_EQ(record.at("search").size(), 2);
}

TEST_F(Probed, ARowIsMergedAgainWhereItsExamplesChangeThoughNoStatisticsFileDoes) {
  ASSERT_EQ(call("collect").code, 0);
  std::vector<std::string> given = {"--quiet"};
  for (size_t i = 0; i < kTasks.size(); ++i) {
    std::filesystem::copy(run("statistics/" + kTasks[i] + ".safetensors"), folder_ / (kTasks[i] + ".safetensors"));
    given.insert(given.end(), {"--set", fmt::format("tasks.{}.statistics={}", kTasks[i],
                                                    (folder_ / (kTasks[i] + ".safetensors")).string())});
  }
  const auto times = [&] {
    std::vector<std::filesystem::file_time_type> result;
    for (const std::string row : {"regmean", "regmean++"})
      result.push_back(std::filesystem::last_write_time(run("merged/" + row + ".safetensors")));
    return result;
  };
  ASSERT_EQ(call("merge", given).code, 0);
  const auto first = times();
  ASSERT_EQ(call("merge", given).code, 0);
  EXPECT_EQ(times(), first);
  given.insert(given.end(), {"--set", "statistics.examples=40"});
  ASSERT_EQ(call("merge", given).code, 0);
  EXPECT_EQ(times()[0], first[0]);
  EXPECT_NE(times()[1], first[1]);
}

class Probing : public Probed {
 protected:
  Probing() {
    DataSpec spec;
    spec.format = "tensors";
    spec.root = (folder_ / "left").string();
    data_ = open_dataset(spec, Split::kTrain, 0, "left");
    for (const auto& [name, tensor] : parameters_of("left")) infos_[name] = {at::kFloat, tensor.sizes().vec()};
  }

  ExpertProbe probe(const StatisticsSpec& options) const {
    return {{{.task = "left",
              .model = folder_ / "left.pt",
              .output = "logits",
              .loss = {},
              .data = data_.get(),
              .parameters = &infos_,
              .split = {}}},
            options,
            {},
            0,
            at::kCPU,
            silent_};
  }

  const at::NoGradGuard no_grad_;  // as while merging
  std::unique_ptr<Dataset> data_;
  std::map<std::string, TensorInfo> infos_;
  mutable SilentProgress silent_;
};

TEST_F(Probing, AddsUpWhatLayersAreFedInTheModelWithReplacedParameters) {
  const NamedTensors replaced = {{"first.weight", parameters_of("right").at("first.weight")},
                                 {"scale", at::full({7}, 0.5)}};
  StatisticsSpec options;
  options.batch = 32;
  int64_t checkpoints = 0;
  ExpertProbe asked = probe(options);
  // `gate` is fed what `second` is, so `second` holds the sums.
  const InputGramSums grams = asked.input_grams("left", {"gate"}, replaced, [&] { ++checkpoints; });
  EXPECT_EQ(grams.sums.size(), 4);  // with the rows of both
  EXPECT_TRUE(grams.blocks.empty());
  EXPECT_GE(checkpoints, 3);  // batches
  const at::Tensor a =
      inputs_of(folder_ / "left.pt", replaced, "second", examples("left")).to(at::kDouble);  // [90, 7], below 0.5
  EXPECT_LE(difference(grams.sums.at("second/input_gram"), a.t().mm(a)), 4 * kEps32 * kExamples);
  EXPECT_LE(difference(grams.sums.at("second/input_sum"), a.sum(0)), 4 * kEps32 * kExamples);
  EXPECT_EQ(grams.sums.at("gate/rows").item<int64_t>(), kExamples);
}

TEST_F(Probing, ReplacesForOneQuestionOnly) {
  ExpertProbe asked = probe({});
  const auto gram = [&](const NamedTensors& replaced) {
    return asked.input_grams("left", {"second"}, replaced, [] {}).sums.at("second/input_gram");
  };
  const at::Tensor before = gram({});
  EXPECT_GT(difference(gram({{"scale", at::full({7}, 0.5)}}), before), 0.1);
  EXPECT_TRUE(at::equal(gram({}), before));
}

TEST_F(Probing, TakesItsOptionsFromTheRecipesStatistics) {
  StatisticsSpec options;
  options.examples = 40;
  options.collector.block_size = 3;
  ExpertProbe asked = probe(options);
  const InputGramSums grams = asked.input_grams("left", {"second"}, {}, [] {});
  EXPECT_EQ(grams.sums.at("second/rows").item<int64_t>(), 40);
  EXPECT_EQ(grams.blocks.at("second/input_gram"), 3);
  options.first = 1000;
  ExpertProbe beyond = probe(options);
  EXPECT_THROW(beyond.input_grams("left", {"second"}, {}, [] {}), InputError);
}

TEST_F(Probing, RefusesUnknownTasksLayersAndTensors) {
  ExpertProbe asked = probe({});
  const auto message = [&](const std::string& task, const std::string& layer, const NamedTensors& replaced) {
    try {
      asked.input_grams(task, {layer}, replaced, [] {});
    } catch (const InputError& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_THAT(message("middle", "first", {}), HasSubstr("'middle'"));
  EXPECT_THAT(message("left", "fourth", {}), HasSubstr("'fourth'"));
  EXPECT_THAT(message("left", "first", {{"fourth.weight", at::zeros({1})}}), HasSubstr("fourth.weight"));
}

}  // namespace
}  // namespace amalgam
