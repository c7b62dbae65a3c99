#include "models/forward_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "core/low_rank.h"
#include "core/packed_bits.h"
#include "core/task_parts.h"
#include "expect_error.h"
#include "memory_batches.h"
#include "models/architectures/architecture.h"
#include "models/torchscript_runner.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

using ::testing::HasSubstr;
using torch::jit::Module;

constexpr int64_t kImages = 40;

/// Three experts with heads of 2, 3 and 4 classes, parts of all kinds, and a router with weights at random.
class Routed : public testing::Test {
 protected:
  Routed() {
    at::manual_seed(7);
    images_ = at::randn({kImages, 1, 5, 5});
    int64_t features = 0;
    for (const std::string task : {"left", "right", "dim"}) {
      const auto classes = static_cast<int64_t>(2 + tasks_.size());
      const auto expert = make_architecture("mlp", YAML::Load("{hidden: [12, 9]}"), {1, 5, 5}, classes, tasks_.size());
      expert->save(folder_ / (task + ".pt"));
      tasks_.push_back({task, folder_ / (task + ".pt")});
      features += classes;
      for (const auto& [name, tensor] : tensors_of(*expert))
        if (name.starts_with("body.")) shared_[name] = at::randn(tensor.sizes()) * 0.3;
    }
    for (const auto& [name, tensor] : shared_) {
      if (tensor.dim() == 2) parts_[base_part_name(name)] = at::randn(tensor.sizes()) * 0.3;
      for (const std::string task : {"left", "right"}) add_part(task, name, tensor);
    }
    std::vector<at::Tensor> outputs;  // standardised by those of the images, so that each part is chosen for some
    for (const TaskModel& task : tasks_) {
      const auto expert = open_model(task.expert, at::kCPU);
      expert->set(shared_);
      outputs.push_back(expert->forward(batch_of(images_)).to(at::kDouble));
    }
    parts_[kRouterWeight] = at::randn({3, features}, at::kDouble);
    parts_[kRouterBias] = at::randn({3}, at::kDouble) * 0.1;
    parts_[kRouterMean] = at::cat(outputs, 1).mean(0);
    parts_[kRouterDeviation] = at::cat(outputs, 1).std(0);
  }

  /// Masks in "left"; factors, and values of biases, in "right". "dim" has no part.
  void add_part(const std::string& task, const std::string& name, const at::Tensor& tensor) {
    const std::string part = part_name(task, name);
    if (tensor.dim() != 2) {
      if (task == "right") parts_[part] = at::randn(tensor.sizes());
    } else if (task == "left") {
      parts_[mask_name(task, name)] = pack_bits(at::rand(tensor.sizes()) < 0.5);
    } else {
      parts_[down_name(part)] = at::randn({2, tensor.size(1)});
      parts_[up_name(part)] = at::randn({tensor.size(0), 2});
    }
  }

  /// The output of a task's expert for one image, with the shared tensors as another task has them; "" for none.
  at::Tensor output(const TaskModel& task, const std::string& part, const at::Tensor& image) const {
    const MemoryTensors shared(shared_), parts(parts_);
    NamedTensors own;
    for (const auto& [name, tensor] : shared_) own[name] = part.empty() ? tensor : with_part(shared, parts, part, name);
    const auto expert = open_model(task.expert, at::kCPU);
    expert->set(own);
    return expert->forward(batch_of(image))[0];
  }

  at::Tensor naive_shares(const at::Tensor& image) const {
    std::vector<at::Tensor> features;
    for (const TaskModel& task : tasks_) features.push_back(output(task, "", image).to(at::kDouble));
    const at::Tensor standard = (at::cat(features) - parts_.at(kRouterMean)) / parts_.at(kRouterDeviation);
    const at::Tensor shares = (parts_.at(kRouterWeight).mv(standard) + parts_.at(kRouterBias)).exp();
    return shares / shares.sum();
  }

  Module saved() const {
    save_multitask(folder_ / "m.pt", tasks_, shared_, parts_);
    return torch::jit::load((folder_ / "m.pt").string());
  }

  TemporaryFolder folder_;
  std::vector<TaskModel> tasks_;
  NamedTensors shared_, parts_;
  at::Tensor images_;
};

TEST_F(Routed, RunsEachExampleWithThePartThatTheRouterChooses) {
  Module whole = saved();
  const at::Tensor shares = whole.get_method("route")({images_}).toTensor();
  ASSERT_EQ(shares.sizes(), (at::IntArrayRef{kImages, 3}));
  std::set<int64_t> chosen;
  for (const TaskModel& task : tasks_) {
    const at::Tensor outputs = whole.get_method("forward_routed")({task.task, images_}).toTensor();
    const auto runner = open_routed(folder_ / "m.pt", task.task, at::kCPU);
    EXPECT_TRUE(at::allclose(runner->forward(batch_of(images_)), outputs, 1e-5, 1e-6));
    for (int64_t n = 0; n < kImages; ++n) {
      const at::Tensor image = images_.slice(0, n, n + 1), expected = naive_shares(image);
      EXPECT_TRUE(at::allclose(shares[n], expected, 1e-4, 1e-6)) << n;
      const auto part = static_cast<size_t>(chosen.insert(expected.argmax().item<int64_t>()).first.operator*());
      EXPECT_TRUE(at::allclose(outputs[n], output(task, tasks_[part].task, image), 1e-4, 1e-5))
          << task.task << " " << n;
    }
  }
  EXPECT_GE(chosen.size(), 2U) << "a test of one part alone";
}

TEST_F(Routed, StillRunsANamedTaskWithItsOwnPart) {
  Module whole = saved();
  for (const size_t i : {0U, 1U, 2U, 1U, 0U}) {
    whole.get_method("route")({images_});
    const at::Tensor outputs = whole.forward({tasks_[i].task, images_}).toTensor();
    for (int64_t n = 0; n < 3; ++n)
      EXPECT_TRUE(at::allclose(outputs[n], output(tasks_[i], tasks_[i].task, images_.slice(0, n, n + 1)), 1e-4, 1e-5));
  }
  const auto alone = open_multitask(folder_ / "m.pt", "right", at::kCPU);
  EXPECT_TRUE(at::allclose(alone->forward(batch_of(images_))[0], output(tasks_[1], "right", images_.slice(0, 0, 1)),
                           1e-4, 1e-5));
}

TEST_F(Routed, RefusesWhatIsNotThere) {
  saved();
  EXPECT_THAT(input_error_of([&] { open_routed(folder_ / "m.pt", "lift", at::kCPU); }), HasSubstr("no task 'lift'"));
  parts_.erase(kRouterWeight);
  for (const char* name : {kRouterBias, kRouterMean, kRouterDeviation}) parts_.erase(name);
  saved();
  EXPECT_THAT(input_error_of([&] { open_routed(folder_ / "m.pt", "left", at::kCPU); }), HasSubstr("no router"));
}

TEST(RoutedForward, TakesTheTasksOutputOfADict) {
  const TemporaryFolder folder;
  Module expert("Expert");
  expert.register_parameter("weight", at::ones({2, 2}), false);
  expert.define(
      "def forward(self, x: Tensor) -> Dict[str, Tensor]:\n"
      "    return {'one': torch.mm(x, self.weight), 'two': torch.mm(x, self.weight) * 2}\n");
  expert.save((folder / "a.pt").string());
  const NamedTensors shared = {{"weight", at::ones({2, 2})}};
  const auto real = at::TensorOptions(at::kDouble);
  // Nothing is private: the features are one output, a's. Examples where its first element is positive are b's.
  const NamedTensors parts = {{"b/weight", at::full({2, 2}, 10.F)},
                              {kRouterWeight, at::tensor({0., 0., 1., 0.}, real).view({2, 2})},
                              {kRouterBias, at::zeros({2}, real)},
                              {kRouterMean, at::zeros({2}, real)},
                              {kRouterDeviation, at::ones({2}, real)}};
  save_multitask(folder / "m.pt", {{"a", folder / "a.pt", "one"}, {"b", folder / "a.pt", "two"}}, shared, parts);
  Module whole = torch::jit::load((folder / "m.pt").string());
  const at::Tensor x = at::tensor({1.F, 0.F, -1.F, 0.F}).view({2, 2});
  const auto routed = [&](const std::string& task) { return whole.get_method("forward_routed")({task, x}).toTensor(); };
  EXPECT_TRUE(at::equal(routed("a"), at::tensor({10.F, 10.F, -1.F, -1.F}).view({2, 2})));
  EXPECT_TRUE(at::equal(routed("b"), at::tensor({20.F, 20.F, -2.F, -2.F}).view({2, 2})));
  EXPECT_THAT(input_error_of([&] {
                save_multitask(folder / "m.pt", {{"a", folder / "a.pt"}, {"b", folder / "a.pt"}}, shared, parts);
              }),
              HasSubstr("`output`"));
}

TEST(ForwardInputs, ThatNoCodeCanDeclareAreRefused) {
  ForwardInputs inputs;
  inputs.declared = ", x: Tensor, counts: Dict[str, int] = {\"a\": 1}";
  EXPECT_NO_THROW(require_declarable(inputs, "expert.pt"));
  inputs.declared = ", x: Tensor, counts: Dict[str, int] = {}";  // to TorchScript a dict of tensors
  EXPECT_THAT(input_error_of([&] { require_declarable(inputs, "expert.pt"); }),
              testing::AllOf(HasSubstr("expert.pt"), HasSubstr(inputs.declared), HasSubstr("Dict[str, Tensor]")));
}

}  // namespace
}  // namespace amalgam
