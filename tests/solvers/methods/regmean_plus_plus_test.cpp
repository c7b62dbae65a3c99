#include "solvers/methods/regmean_plus_plus.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "core/error.h"
#include "solvers/merge_case.h"
#include "solvers/probe_case.h"

namespace amalgam {
namespace {

using test::difference;
using test::kEps64;
using test::MergeCase;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr int64_t kRows = 41;

/// Linear layers one behind the other, tanh between them; the input is shifted by the parameter `shift`.
const std::vector<std::string> kChain = {"net.0.a", "net.0.b", "net.1.a", "net.1.b", "out"};
const std::vector<std::vector<size_t>> kAuto = {{0, 1}, {2, 3}, {4}}, kByLayer = {{0}, {1}, {2}, {3}, {4}};

at::Tensor with_one(const at::Tensor& rows) { return at::cat({rows, at::ones({rows.size(0), 1}, at::kDouble)}, 1); }

at::Tensor apply(const NamedTensors& model, const std::string& layer, const at::Tensor& input) {
  const at::Tensor weight = MergeCase::matrix(model, layer);
  return (weight.size(1) > input.size(1) ? with_one(input) : input).mm(weight.t());
}

/// Runs the chain of the experts, as `ModelProbe` says.
class ChainProbe final : public test::SilentProbe {
 public:
  ChainProbe(const MergeCase& merge_case, std::map<std::string, at::Tensor> examples)
      : merge_case_(merge_case), examples_(std::move(examples)) {}

  InputGramSums input_grams(const std::string& task, const std::vector<std::string>& layers,
                            const NamedTensors& replaced, const std::function<void()>& checkpoint) override {
    calls.emplace_back(task, layers, replaced);
    checkpoint();
    NamedTensors model = replaced;
    for (size_t m = 0; m < merge_case_.tasks.size(); ++m)
      if (merge_case_.tasks[m] == task) model.insert(merge_case_.experts[m].begin(), merge_case_.experts[m].end());
    InputGramSums result;
    at::Tensor h = examples_.at(task) + model.at("shift");
    for (const std::string& layer : kChain) {
      if (std::find(layers.begin(), layers.end(), layer) != layers.end() && layer != left_out) {
        result.sums[layer + "/input_gram"] = h.t().mm(h);
        result.sums[layer + "/input_sum"] = h.sum(0);
        result.sums[layer + "/rows"] = at::scalar_tensor(h.size(0), at::kLong);
      }
      h = apply(model, layer, h).tanh();
    }
    return result;
  }

  struct Call {
    std::string task;
    std::vector<std::string> layers;
    NamedTensors replaced;
    Call(std::string t, std::vector<std::string> l, NamedTensors r)
        : task(std::move(t)), layers(std::move(l)), replaced(std::move(r)) {}
  };
  std::vector<Call> calls;
  std::string left_out;  // a layer that nothing is said of

 private:
  const MergeCase& merge_case_;
  std::map<std::string, at::Tensor> examples_;
};

class RegMeanPlusPlusChain : public testing::Test {
 protected:
  /// Draws experts and examples; `build` may come after changes.
  void draw(bool bias, const std::vector<std::string>& tasks) {
    const int64_t widths[] = {5, 6, 6, 6, 3, 2};
    merge_case.parameter("shift", {5});
    for (size_t i = 0; i < kChain.size(); ++i) merge_case.add(test::linear(kChain[i], widths[i + 1], widths[i], bias));
    merge_case.shapes["running"] = {4};  // a buffer
    merge_case.draw(tasks);
    for (const std::string& task : tasks) examples[task] = merge_case.random.normal({kRows, 5});
  }
  void build() {
    merge_case.build();
    merge_case.input.buffers = {"running"};
    probe = std::make_unique<ChainProbe>(merge_case, examples);
    merge_case.input.probe = probe.get();
  }

  /// The algorithm, step by step: what each task's examples are at the merged part so far goes through the block of
  /// each expert; the normal equations by an inverse.
  NamedTensors naive(double lambda, const std::vector<std::vector<size_t>>& blocks) const {
    const auto& tasks = merge_case.tasks;
    const auto& weights = merge_case.weights;
    const size_t count = tasks.size();
    double total = 0;
    at::Tensor shift = at::zeros({5}, at::kDouble);
    for (size_t m = 0; m < count; ++m) {
      shift += weights[m] * merge_case.experts[m].at("shift");
      total += weights[m];
    }
    NamedTensors merged = {{"shift", shift / total}};
    std::vector<at::Tensor> at_block;
    for (size_t m = 0; m < count; ++m) at_block.push_back(examples.at(tasks[m]) + merged["shift"]);
    for (const auto& block : blocks) {
      std::map<size_t, std::pair<at::Tensor, at::Tensor>> equations;  // by layer: left side, right side
      for (size_t m = 0; m < count; ++m) {
        at::Tensor h = at_block[m];
        for (const size_t i : block) {
          const at::Tensor weight = MergeCase::matrix(merge_case.experts[m], kChain[i]);
          const at::Tensor a = weight.size(1) > h.size(1) ? with_one(h) : h;
          const at::Tensor plain = a.t().mm(a) / kRows;
          const at::Tensor gram = weights[m] * (lambda * plain + (1 - lambda) * at::diag(plain.diag()));
          auto& [left, right] = equations[i];
          left = m == 0 ? gram : left + gram;
          right = m == 0 ? weight.mm(gram) : right + weight.mm(gram);
          h = apply(merge_case.experts[m], kChain[i], h).tanh();
        }
      }
      for (const size_t i : block) {
        const at::Tensor solved = equations[i].second.mm(at::linalg_inv(equations[i].first));
        const int64_t in = merge_case.layer(kChain[i]).in;
        merged[kChain[i] + ".weight"] = solved.slice(1, 0, in);
        if (solved.size(1) > in) merged[kChain[i] + ".bias"] = solved.select(1, in);
        for (auto& h : at_block) h = apply(merged, kChain[i], h).tanh();
      }
    }
    return merged;
  }

  MergeCase merge_case;
  std::map<std::string, at::Tensor> examples;
  std::unique_ptr<ChainProbe> probe;
};

/// Largest difference over all tensors that `expected` names.
double largest_difference(const NamedTensors& merged, const NamedTensors& expected) {
  double largest = 0;
  for (const auto& [name, tensor] : expected) largest = std::max(largest, difference(merged.at(name), tensor));
  return largest;
}

// Two ways to one solution differ by the condition of the Gram matrices (below 1e3 here) and of the layers before.
constexpr double kTolerance = 1e4 * kEps64;

TEST_F(RegMeanPlusPlusChain, MatchesTheNaiveAlgorithmByBlocksAndByLayers) {
  for (const bool bias : {false, true}) {
    merge_case = MergeCase();
    draw(bias, {"a", "b", "c"});
    merge_case.weights = {1.0, 2.0, 0.5};
    build();
    for (const double lambda : {0.95, 0.5, 0.0}) {
      const auto entry = [&](const char* blocks) {
        return fmt::format("{{method: regmean++, off_diagonal: {}, ridge: 0, blocks: {}}}", lambda, blocks);
      };
      const auto by_block = merge_case.merge(entry("auto")).merged, by_layer = merge_case.merge(entry("layer")).merged;
      EXPECT_LE(largest_difference(by_block, naive(lambda, kAuto)), kTolerance);
      EXPECT_LE(largest_difference(by_layer, naive(lambda, kByLayer)), kTolerance);
      EXPECT_LE(difference(by_block.at("net.0.a.weight"), by_layer.at("net.0.a.weight")), kTolerance);
      EXPECT_GT(difference(by_block.at("net.0.b.weight"), by_layer.at("net.0.b.weight")), 1e-3);
    }
  }
}

TEST_F(RegMeanPlusPlusChain, ShrinksByTheFactorOfThePaper) {
  draw(true, {"a", "b"});
  build();
  EXPECT_LE(largest_difference(merge_case.merge("{method: regmean++, ridge: 0}").merged, naive(0.95, kAuto)),
            kTolerance);
}

TEST_F(RegMeanPlusPlusChain, OfOneExpertIsThatExpert) {
  draw(true, {"a"});
  build();
  EXPECT_LE(largest_difference(merge_case.merge("{method: regmean++, ridge: 0}").merged, merge_case.experts[0]),
            kTolerance);
}

TEST_F(RegMeanPlusPlusChain, OfEqualExpertsIsThatExpert) {
  draw(true, {"a", "b", "c"});
  for (auto& expert : merge_case.experts) expert = merge_case.experts[0];
  build();
  EXPECT_LE(largest_difference(merge_case.merge("{method: regmean++, ridge: 0}").merged, merge_case.experts[0]),
            kTolerance);
}

TEST_F(RegMeanPlusPlusChain, IsTheSameForExpertsInAnotherOrder) {
  draw(true, {"a", "b", "c"});
  merge_case.weights = {1.0, 2.0, 0.5};
  build();
  const auto merged = merge_case.merge("regmean++").merged;
  std::rotate(merge_case.input.experts.begin(), merge_case.input.experts.begin() + 1, merge_case.input.experts.end());
  EXPECT_LE(largest_difference(merge_case.merge("regmean++").merged, merged), kTolerance);
}

TEST_F(RegMeanPlusPlusChain, AsksEachTaskOnceABlockWithWhatIsMergedByThen) {
  draw(true, {"a", "b"});
  build();
  const auto merged = merge_case.merge("regmean++").merged;
  ASSERT_EQ(probe->calls.size(), 6);
  const auto names = [](const NamedTensors& tensors) {
    std::vector<std::string> result;
    for (const auto& [name, tensor] : tensors) result.push_back(name);
    return result;
  };
  EXPECT_EQ(probe->calls[1].task, "b");
  EXPECT_THAT(probe->calls[1].layers, ElementsAre("net.0.a", "net.0.b"));
  EXPECT_THAT(names(probe->calls[1].replaced), ElementsAre("running", "shift"));
  EXPECT_THAT(probe->calls[4].layers, ElementsAre("out"));
  EXPECT_THAT(names(probe->calls[2].replaced),
              ElementsAre("net.0.a.bias", "net.0.a.weight", "net.0.b.bias", "net.0.b.weight", "running", "shift"));
  for (const auto& [name, tensor] : probe->calls[4].replaced) EXPECT_TRUE(at::equal(tensor, merged.at(name))) << name;
}

TEST_F(RegMeanPlusPlusChain, SeesLayersThatAreLeftOutAsTheirAverage) {
  draw(true, {"a", "b"});
  build();
  const auto merged = merge_case.merge("{method: regmean++, except: ['net.1.*']}").merged;
  ASSERT_EQ(probe->calls.size(), 4);
  const auto mean = (merge_case.experts[0]["net.1.a.weight"] + merge_case.experts[1]["net.1.a.weight"]) / 2;
  EXPECT_LE(difference(probe->calls[0].replaced.at("net.1.a.weight"), mean), kEps64);
  EXPECT_LE(difference(merged.at("net.1.a.weight"), mean), kEps64);
}

TEST_F(RegMeanPlusPlusChain, RunsNoTaskWithoutWeight) {
  draw(true, {"a", "b", "c"});
  merge_case.weights = {1.0, 0.0, 2.0};
  build();
  EXPECT_LE(largest_difference(merge_case.merge("{method: regmean++, ridge: 0}").merged, naive(0.95, kAuto)),
            kTolerance);
  for (const auto& call : probe->calls) EXPECT_NE(call.task, "b");
}

TEST_F(RegMeanPlusPlusChain, NeedsAProbe) {
  draw(true, {"a", "b"});
  build();
  merge_case.input.probe = nullptr;
  try {
    merge_case.merge("regmean++");
    FAIL();
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(),
                AllOf(HasSubstr("'regmean++'"), HasSubstr("runs the models"), HasSubstr("amalgam merge")));
  }
}

TEST_F(RegMeanPlusPlusChain, NamesALayerThatThePartlyMergedModelDoesNotUse) {
  draw(true, {"a", "b"});
  build();
  probe->left_out = "net.1.b";
  try {
    merge_case.merge("regmean++");
    FAIL();
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("task 'a'"), HasSubstr("'net.1.b'"), HasSubstr("except")));
  }
}

struct Messages final : Progress {
  std::vector<std::string> messages;
  std::set<std::string> notes;
  int64_t updates_left = -1;  // then it stops; -1: never

  void begin(const std::string&, int64_t) override {}
  void update(int64_t, const std::string& note) override {
    notes.insert(note);
    if (updates_left >= 0 && updates_left-- == 0) throw Interrupted();
  }
  void end(const std::string&) override {}
  void message(const std::string& text) override { messages.push_back(text); }
};

TEST_F(RegMeanPlusPlusChain, SaysWhatItCosts) {
  draw(true, {"a", "b"});
  build();
  Messages progress;
  merge(*make_method("regmean++", {}, "merge"), merge_case.input, progress);
  EXPECT_THAT(
      progress.messages,
      ElementsAre(HasSubstr("3 blocks one after the other, each with one forward pass over the examples of 2 tasks")));
  EXPECT_TRUE(progress.notes.contains("net.1."));
}

TEST_F(RegMeanPlusPlusChain, CanBeStoppedWithinABlock) {
  draw(true, {"a", "b"});
  build();
  Messages progress;
  progress.updates_left = 3;  // the shift, the group, task a, and then from within the probe
  EXPECT_THROW(merge(*make_method("regmean++", {}, "merge"), merge_case.input, progress), Interrupted);
  EXPECT_EQ(probe->calls.size(), 1);
}

TEST(RegMeanPlusPlus, TakesAsABlockWhatSharesTheNameUpToItsFirstNumber) {
  const auto block = [](const char* entry, const std::string& name, const std::string& input_of) {
    Layer layer = test::linear(name, 2, 2, false);
    layer.input_of = input_of;
    return make_method(YAML::Load(entry), "merge")->block_of(layer);
  };
  const std::string query = "encoder.layer.3.attention.0.query", key = "encoder.layer.3.attention.0.key";
  EXPECT_EQ(block("regmean++", query, query), "encoder.layer.3.");
  EXPECT_EQ(block("regmean++", "encoder.layer.30.out", "x"), "encoder.layer.30.");
  EXPECT_EQ(block("regmean++", "layer1.12.conv2", "x"), "layer1.12.");
  EXPECT_EQ(block("regmean++", "fc1", "fc1"), "fc1");
  EXPECT_EQ(block("regmean++", "fc2", "fc1"), "fc1");  // fed the same tensor: neither changes the other's input
  EXPECT_EQ(block("{method: regmean++, blocks: layer}", key, query), query);
}

TEST(RegMeanPlusPlus, CannotBeAStart) {
  try {
    make_method(YAML::Load("{method: mats, init: regmean++}"), "merge.mats");
    FAIL();
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("merge.mats"), HasSubstr("cannot be a start")));
  }
}

}  // namespace
}  // namespace amalgam
