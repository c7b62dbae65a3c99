#pragma once

#include <gtest/gtest.h>
#include <torch/script.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/batch.h"
#include "core/observation.h"
#include "core/progress.h"
#include "core/tensor_source.h"
#include "models/runner.h"

namespace amalgam::test {

using Inputs = std::vector<at::Tensor>;
using EagerForward = std::function<at::Tensor(const NamedTensors& tensors, const Inputs& inputs)>;

/// One model written twice, as TorchScript source and as eager code, with data for it; all in float64.
struct TapModel {
  std::string name;
  std::vector<std::pair<std::string, at::Tensor>> parameters;
  std::vector<std::pair<std::string, at::Tensor>> buffers;
  std::string source;  ///< of forward
  EagerForward eager;  ///< is traced
  Batch data;          ///< 8 examples
};

enum class Made { kScripted, kTraced };

torch::jit::Module make_module(const TapModel& model, Made made);
std::unique_ptr<ModelRunner> make_runner(const TapModel& model, Made made = Made::kScripted);

/// Deterministic numbers.
at::Tensor numbers(at::IntArrayRef shape, uint64_t seed, double scale = 1.0);
/// Examples with int64 targets below `classes`.
Batch make_batch(Inputs inputs, int64_t classes, std::vector<int64_t> target_shape = {8});

/// The first `examples` examples.
Batch narrow(const Batch& batch, int64_t begin, int64_t examples);

/// The examples of a batch, `size` at a time.
class BatchSlices final : public BatchSource {
 public:
  BatchSlices(Batch all, int64_t size) : all_(std::move(all)), size_(size) {}
  bool next(Batch& batch) override;
  void reset() override { position_ = 0; }
  int64_t examples() const override { return all_.count; }

 private:
  Batch all_;
  int64_t size_, position_ = 0;
};

/// Keeps copies of all it is shown.
class Recorder final : public LayerObserver {
 public:
  struct Seen {
    Layer layer;
    std::vector<LayerUse> uses;
    bool repeated;
  };
  explicit Recorder(ObserverNeeds needs = {.gradients = true}) : needs_(needs) {}
  ObserverNeeds needs() const override { return needs_; }
  void observe(const LayerObservation& observation) override {
    batches.back().push_back({observation.layer, observation.uses, observation.repeated});
  }
  void end_batch(int64_t examples) override {
    counts.push_back(examples);
    batches.emplace_back();
  }

  std::vector<std::vector<Seen>> batches = {{}};
  std::vector<int64_t> counts;

 private:
  ObserverNeeds needs_;
};

/// Keeps the messages.
class Messages final : public Progress {
 public:
  void begin(const std::string&, int64_t) override {}
  void update(int64_t, const std::string&) override {}
  void end(const std::string&) override {}
  void message(const std::string& text) override { texts.push_back(text); }
  std::vector<std::string> texts;
};

/// The gradient of each parameter by example, [examples, ...], computed naively from what was observed.
/// @param shapes  the parameters
NamedTensors gradients_by_example(const Recorder& recorder, const NamedTensors& shapes);

/// The same by plain autograd on the model itself, one example at a time.
NamedTensors autograd_by_example(const TapModel& model);
/// @param runner  whose parameters are then left requiring gradients
NamedTensors autograd_by_example(ModelRunner& runner, const Batch& data);

/// |a − b| ≤ c eps max|b| everywhere.
::testing::AssertionResult nearly_equal(const at::Tensor& a, const at::Tensor& b, double c = 256);

}  // namespace amalgam::test
