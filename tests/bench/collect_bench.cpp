// What statistics cost beside the model's own passes:
//
//   <work>/<model>/<batch>  one pass over the same examples, cut into batches of that size
//     forward, forward_backward   the model alone; gradients by its parameters, as training has them
//     observe, observe_gradients  the passes under taps, with nobody who makes anything of what they see
//     full_products               XᵀX of the input of every layer that has a Gram matrix of its own, as one plain
//     product collect_<kinds>             the collector, from the model's inputs to the sums
//   examples/<model>/<examples>   collect_all over so many examples, with the program's memory afterwards
//
// collect_bench --write=FOLDER puts models and examples there for naive_collect.py and measures nothing.
#include <ATen/core/grad_mode.h>
#include <benchmark/benchmark.h>

#include <algorithm>
#include <fstream>
#include <memory>

#include "core/safetensors.h"
#include "models/architectures/architecture.h"
#include "models/collect.h"
#include "models/layer_scan.h"
#include "models/loss.h"
#include "stats/collector.h"
#include "stats/rows.h"
#include "stats/sum_table.h"

namespace amalgam {
namespace {

constexpr int64_t kClasses = 10;

struct ModelCase {
  std::string name, architecture, options;
  std::vector<int64_t> input;  // [channels, height, width]
  int64_t examples;            // of one pass
};

/// The encoder has the shapes of all-MiniLM-L6-v2: six layers, 384 wide, 1536 hidden units, twelve heads.
const std::vector<ModelCase>& model_cases() {
  static const std::string encoder = "{width: 384, depth: 6, heads: 12, patch: 4, mlp_ratio: 4}";
  static const std::vector<ModelCase> cases = {
      {"encoder_64_tokens", "vision_transformer", encoder, {3, 32, 32}, 32},
      {"encoder_8_tokens", "vision_transformer", encoder, {3, 8, 16}, 64},
      {"mlp", "mlp", "{hidden: [1024, 1024, 1024]}", {1, 28, 28}, 256},
  };
  return cases;
}

/// Slices of tensors in memory.
class Slices final : public BatchSource {
 public:
  Slices(at::Tensor inputs, at::Tensor target, int64_t batch, int64_t examples)
      : inputs_(std::move(inputs)), target_(std::move(target)), batch_(batch), examples_(examples) {}

  /// Goes round where more examples are asked for than there are.
  bool next(Batch& batch) override {
    if (begin_ >= examples_) return false;
    const int64_t held = inputs_.size(0), first = begin_ % held;
    const int64_t count = std::min({batch_, examples_ - begin_, held - first});
    batch = Batch{};
    batch.inputs = {inputs_.narrow(0, first, count)};
    batch.target = target_.narrow(0, first, count);
    batch.ids = at::arange(begin_, begin_ + count);
    batch.count = count;
    begin_ += count;
    return true;
  }
  void reset() override { begin_ = 0; }
  int64_t examples() const override { return examples_; }

 private:
  at::Tensor inputs_, target_;
  int64_t batch_, examples_, begin_ = 0;
};

/// A model with its examples, made once.
struct Subject {
  std::unique_ptr<ModelRunner> model;
  at::Tensor inputs, target;
  ScanResult scan;

  Slices source(int64_t batch, int64_t examples) const { return {inputs, target, batch, examples}; }
};

Subject& subject_of(const ModelCase& model) {
  static std::map<std::string, Subject> made;
  const auto [found, is_new] = made.try_emplace(model.name);
  Subject& subject = found->second;
  if (is_new) {
    subject.model = make_architecture(model.architecture, YAML::Load(model.options), model.input, kClasses, 1);
    auto generator = at::detail::createCPUGenerator(2);
    std::vector<int64_t> shape = {model.examples};
    shape.insert(shape.end(), model.input.begin(), model.input.end());
    subject.inputs = at::randn(shape, generator);
    subject.target = at::randint(kClasses, {model.examples}, generator, at::kLong);
    Batch probe;
    Slices(subject.inputs, subject.target, 3, 3).next(probe);
    subject.scan = scan_layers(*subject.model, probe, "cross_entropy");
  }
  return subject;
}

void forward(benchmark::State& state, const ModelCase& model, int64_t batch_size) {
  Subject& subject = subject_of(model);
  const at::NoGradGuard no_grad;
  for (auto _ : state) {
    Slices source = subject.source(batch_size, model.examples);
    for (Batch batch; source.next(batch);) benchmark::DoNotOptimize(subject.model->forward(batch));
  }
}

void forward_backward(benchmark::State& state, const ModelCase& model, int64_t batch_size) {
  Subject& subject = subject_of(model);
  const NamedTensors parameters = subject.model->parameters();
  for (const auto& [name, parameter] : parameters) parameter.set_requires_grad(true);
  for (auto _ : state) {
    Slices source = subject.source(batch_size, model.examples);
    for (Batch batch; source.next(batch);) {
      example_losses("cross_entropy", subject.model->forward(batch), batch.target).sum().backward();
      for (const auto& [name, parameter] : parameters) parameter.mutable_grad() = at::Tensor();
    }
  }
  for (const auto& [name, parameter] : parameters) parameter.set_requires_grad(false);
}

/// Remembers what the layers that own a Gram matrix were fed.
class InputKeeper final : public LayerObserver {
 public:
  explicit InputKeeper(const LayerTable& table) : table_(table) {}
  ObserverNeeds needs() const override { return {}; }
  void observe(const LayerObservation& observation) override {
    if (!has_rows(observation.layer) || input_gram_owner(table_, observation.layer) != observation.layer.name) return;
    for (const LayerUse& use : observation.uses)
      inputs.push_back(input_rows(observation.layer, use.input).flatten(0, 2).clone());
  }
  void end_batch(int64_t) override {}

  std::vector<at::Tensor> inputs;  // [rows, in] each

 private:
  const LayerTable& table_;
};

void full_products(benchmark::State& state, const ModelCase& model, int64_t batch_size) {
  Subject& subject = subject_of(model);
  InputKeeper keeper(subject.scan.layers);
  Slices source = subject.source(batch_size, model.examples);
  SilentProgress silent;
  collect_observations(*subject.model, subject.scan, source, {}, keeper, silent);
  std::map<int64_t, at::Tensor> sums;
  for (const at::Tensor& x : keeper.inputs)
    if (!sums.contains(x.size(1))) sums[x.size(1)] = at::empty({x.size(1), x.size(1)});
  for (auto _ : state)
    for (const at::Tensor& x : keeper.inputs) at::mm_out(sums.at(x.size(1)), x.t(), x);
}

/// Is shown everything and does nothing.
class IdleObserver final : public LayerObserver {
 public:
  explicit IdleObserver(bool gradients) : gradients_(gradients) {}
  ObserverNeeds needs() const override { return {.gradients = gradients_, .outputs = false}; }
  void observe(const LayerObservation&) override {}
  void end_batch(int64_t) override {}

 private:
  bool gradients_;
};

void observe(benchmark::State& state, const ModelCase& model, int64_t batch_size, bool gradients) {
  Subject& subject = subject_of(model);
  IdleObserver idle(gradients);
  SilentProgress silent;
  for (auto _ : state) {
    Slices source = subject.source(batch_size, model.examples);
    collect_observations(*subject.model, subject.scan, source, {}, idle, silent);
  }
}

void collect(benchmark::State& state, const ModelCase& model, int64_t batch_size, int64_t examples,
             const std::vector<std::string>& words) {
  Subject& subject = subject_of(model);
  std::set<StatisticKind> kinds;
  for (const auto& word : words) kinds.merge(kinds_from_word(word));
  std::map<std::string, TensorInfo> infos;
  for (const auto& [name, tensor] : subject.model->parameters())
    infos[name] = {tensor.scalar_type(), tensor.sizes().vec()};
  StatisticsCollector collector(subject.scan.layers, infos, kinds);
  SilentProgress silent;
  Slices first = subject.source(batch_size, batch_size);  // makes the sums
  collect_observations(*subject.model, subject.scan, first, {}, collector, silent);
  for (auto _ : state) {
    Slices source = subject.source(batch_size, examples);
    collect_observations(*subject.model, subject.scan, source, {}, collector, silent);
  }
}

double resident_mebibytes() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;)
    if (word == "VmRSS:") {
      double kibibytes = 0;
      status >> kibibytes;
      return kibibytes / 1024;
    }
  return 0;
}

void collect_examples(benchmark::State& state, const ModelCase& model, int64_t examples) {
  collect(state, model, 8, examples, {"kronecker", "squared_gradient", "moments"});
  state.counters["resident_MiB"] = resident_mebibytes();
}

void register_all() {
  const std::map<std::string, std::vector<std::string>> kinds = {{"input_gram", {"input_gram"}},
                                                                 {"kronecker", {"kronecker"}},
                                                                 {"squared_gradient", {"squared_gradient"}},
                                                                 {"all", {"kronecker", "squared_gradient", "moments"}}};
  const auto add = [](const std::string& name, auto work) {
    benchmark::RegisterBenchmark(name.c_str(), work)->Unit(benchmark::kMillisecond)->UseRealTime();
  };
  for (const ModelCase& model : model_cases()) {
    for (const int64_t batch : {1, 8, 32}) {
      const auto name = [&](const std::string& work) { return fmt::format("{}/{}/{}", work, model.name, batch); };
      add(name("forward"), [&model, batch](auto& state) { forward(state, model, batch); });
      add(name("forward_backward"), [&model, batch](auto& state) { forward_backward(state, model, batch); });
      add(name("observe"), [&model, batch](auto& state) { observe(state, model, batch, false); });
      add(name("observe_gradients"), [&model, batch](auto& state) { observe(state, model, batch, true); });
      add(name("full_products"), [&model, batch](auto& state) { full_products(state, model, batch); });
      for (const auto& [kind, words] : kinds)
        add(name("collect_" + kind),
            [&model, batch, words](auto& state) { collect(state, model, batch, model.examples, words); });
    }
    for (const int64_t rounds : {1, 2, 4})
      add(fmt::format("examples/{}/{}", model.name, rounds * model.examples),
          [&model, rounds](auto& state) { collect_examples(state, model, rounds * model.examples); });
  }
}

void write_subjects(const std::filesystem::path& folder) {
  for (const ModelCase& model : model_cases()) {
    const Subject& subject = subject_of(model);
    subject.model->save(folder / (model.name + ".pt"));
    write_safetensors(folder / (model.name + ".safetensors"),
                      NamedTensors{{"input.0", subject.inputs}, {"target", subject.target}});
  }
}

}  // namespace
}  // namespace amalgam

int main(int count, char** arguments) {
  const std::string first = count > 1 ? arguments[1] : "";
  constexpr std::string_view kWrite = "--write=";
  if (first.starts_with(kWrite)) {
    amalgam::write_subjects(first.substr(kWrite.size()));
    return 0;
  }
  amalgam::register_all();
  benchmark::Initialize(&count, arguments);
  if (benchmark::ReportUnrecognizedArguments(count, arguments)) return 2;
  benchmark::RunSpecifiedBenchmarks();
}
