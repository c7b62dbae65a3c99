#include "models/task_switch.h"

#include <gmock/gmock.h>

#include "core/low_rank.h"
#include "core/packed_bits.h"
#include "core/task_parts.h"
#include "expect_error.h"
#include "memory_batches.h"
#include "models/architectures/architecture.h"
#include "models/artefact.h"
#include "models/torchscript_runner.h"
#include "python.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

using torch::jit::Module;

constexpr int64_t kSide = 8;

/// Three experts with heads of their own and batch norms: merged tensors for their bodies, and parts of all kinds.
class TaskSwitch : public testing::Test {
 protected:
  TaskSwitch() {
    for (const std::string task : {"left", "right", "dim"}) {
      const auto classes = static_cast<int64_t>(2 + tasks_.size());
      const auto expert = make_architecture("convolutional", YAML::Load("{channels: [16, 128, 128], norm: batch}"),
                                            {1, kSide, kSide}, classes, tasks_.size());
      expert->save(folder_ / (task + ".pt"));
      tasks_.push_back({task, folder_ / (task + ".pt")});
      for (const auto& [name, tensor] : tensors_of(*expert))
        if (name.starts_with("body.")) merged_[name] = at::rand(tensor.sizes()) * 0.1;
    }
    for (const auto& [name, tensor] : merged_) {
      if (tensor.dim() == 4) parts_[base_part_name(name)] = at::rand(tensor.sizes()) * 0.1;
      for (const std::string task : {"left", "right"}) add_part(task, name, tensor);
    }
  }

  /// Kernels: masks in "left", factors in "right"; else values of its own in "right". "dim" has no part.
  void add_part(const std::string& task, const std::string& name, const at::Tensor& tensor) {
    const std::string part = part_name(task, name);
    if (tensor.dim() != 4) {
      if (task == "right") parts_[part] = at::rand(tensor.sizes()) * 0.1;
    } else if (task == "left") {
      parts_[mask_name(task, name)] = pack_bits(at::rand(tensor.sizes()) < 0.5);
    } else {
      parts_[down_name(part)] = at::rand({2, tensor.numel() / tensor.size(0)}) * 0.1;
      parts_[up_name(part)] = at::rand({tensor.size(0), 2}) * 0.1;
    }
  }

  /// The task's own tensors by core/task_parts.h, in its expert.
  at::Tensor expected(const TaskModel& task) const {
    const MemoryTensors shared(merged_), parts(parts_);
    NamedTensors own;
    for (const auto& [name, tensor] : merged_) own[name] = with_part(shared, parts, task.task, name);
    const auto expert = open_model(task.expert, at::kCPU);
    expert->set(own);
    return expert->forward(batch_of(images_));
  }

  void save() const { save_multitask(folder_ / "merged.pt", tasks_, merged_, parts_); }
  Module load() const { return torch::jit::load((folder_ / "merged.pt").string()); }

  TemporaryFolder folder_;
  std::vector<TaskModel> tasks_;
  NamedTensors merged_, parts_;
  at::Tensor images_ = at::rand({3, 1, kSide, kSide});
};

TEST_F(TaskSwitch, RunsEachTaskWithItsOwnTensorsInAnyOrder) {
  save();
  Module whole = load();
  for (const size_t i : {0U, 1U, 2U, 1U, 0U, 0U, 2U, 0U})
    EXPECT_TRUE(at::equal(whole.forward({tasks_[i].task, images_}).toTensor(), expected(tasks_[i]))) << i;
}

TEST_F(TaskSwitch, OpensOneTaskAndSavesItAsAModelOfItsOwn) {
  save();
  EXPECT_EQ(multitask_names(folder_ / "merged.pt"), (std::vector<std::string>{"left", "right", "dim"}));
  for (const TaskModel& task : tasks_) {
    const auto path = folder_ / (task.task + ".alone.pt");
    open_multitask(folder_ / "merged.pt", task.task, at::kCPU)->save(path);
    const auto alone = open_model(path, at::kCPU);
    EXPECT_EQ(alone->parameter_names(), open_model(task.expert, at::kCPU)->parameter_names());
    EXPECT_TRUE(at::equal(alone->forward(batch_of(images_)), expected(task))) << task.task;
  }
}

TEST_F(TaskSwitch, StoresPartsPackedAndTheRestOnce) {
  save();
  double bytes = 0;
  for (const NamedTensors* tensors : {&merged_, &parts_})
    for (const auto& [name, tensor] : *tensors) bytes += static_cast<double>(tensor.nbytes());
  const auto size = static_cast<double>(std::filesystem::file_size(folder_ / "merged.pt"));
  EXPECT_LT(size, 1.1 * bytes + 100e3);
  EXPECT_LT(size, 0.9 * 3 * static_cast<double>(std::filesystem::file_size(folder_ / "dim.pt")));
}

TEST_F(TaskSwitch, GivesTheSameOutputsInPython) {
  if (!std::filesystem::exists(kPython)) GTEST_SKIP() << "there is no " << kPython;
  save();
  NamedTensors tensors = {{"input", images_}};
  for (const TaskModel& task : tasks_) tensors["output." + task.task] = expected(task);
  write_safetensors(folder_ / "outputs.safetensors", tensors);
  EXPECT_TRUE(run_python("compare_tasks.py",
                         (folder_ / "merged.pt").string() + " " + (folder_ / "outputs.safetensors").string()));
}

TEST_F(TaskSwitch, LetsTheFormerTasksTensorsGo) {
  save();
  Module whole = load();
  const auto built = [&](const std::string& task) {
    int64_t elements = 0;
    for (const auto& parameter : whole.attr(task).toModule().named_parameters())
      if (parameter.value.dim() == 4) elements += parameter.value.numel();
    return elements;
  };
  EXPECT_EQ(built("left"), 0);
  whole.forward({"left", images_});
  EXPECT_GT(built("left"), 0);
  whole.forward({"right", images_});
  EXPECT_EQ(built("left"), 0);
  EXPECT_GT(built("right"), 0);
}

TEST_F(TaskSwitch, RefusesAnUnknownTaskAndStaysAsItWas) {
  save();
  Module whole = load();
  whole.forward({"left", images_});
  try {
    whole.forward({"lefd", images_});
    ADD_FAILURE() << "an unknown task ran";
  } catch (const std::exception& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("unknown task: lefd (known: left, right, dim)"));
  }
  EXPECT_TRUE(at::equal(whole.forward({"left", images_}).toTensor(), expected(tasks_[0])));
}

TEST_F(TaskSwitch, WithoutPartsThereIsNothingToSelect) {
  parts_.clear();
  save();
  EXPECT_FALSE(load().find_method("_select").has_value());
  EXPECT_FALSE(load().hasattr("_parts"));
}

TEST(TaskSwitchNames, BuildsTiedTensorsOnceAndWhatHasNoNameInCodeWhole) {
  const TemporaryFolder folder;
  Module expert("Expert");
  expert.register_parameter("weight", at::ones({2, 2}), false);
  expert.register_parameter("again", expert.attr("weight").toTensor(), false);
  expert.register_parameter("0", at::zeros({2, 2}), false);
  expert.define(
      "def forward(self, x: Tensor) -> Tensor:\n    return x * self.weight + self.again + getattr(self, \"0\")\n");
  expert.save((folder / "a.pt").string());
  NamedTensors shared = {{"weight", at::full({2, 2}, 3.F)}, {"0", at::full({2, 2}, 100.F)}}, parts;
  for (const auto& [name, tensor] : shared) {
    parts["base/" + name] = at::full({2, 2}, name == "0" ? 50.F : 2.F);
    for (const std::string task : {"a", "b"})
      parts[mask_name(task, name)] = pack_bits(at::full({2, 2}, task == "a", at::kBool));
  }
  save_multitask(folder / "m.pt", {{"a", folder / "a.pt"}, {"b", folder / "a.pt"}}, shared, parts);
  Module whole = torch::jit::load((folder / "m.pt").string());
  const at::Tensor x = at::ones({2, 2});
  EXPECT_TRUE(at::equal(whole.forward({"a", x}).toTensor(), at::full({2, 2}, 106.F)));
  EXPECT_TRUE(at::equal(whole.forward({"b", x}).toTensor(), at::full({2, 2}, 54.F)));
  const auto alone = open_multitask(folder / "m.pt", "b", at::kCPU);
  EXPECT_EQ(alone->aliases().size(), 1U);
  EXPECT_EQ(alone->parameter_names().size(), 2U);
}

TEST(TaskSwitchNames, BuildsInTheDtypeThatTensorsAreStoredIn) {
  const TemporaryFolder folder;
  Module expert("Expert");
  expert.register_parameter("weight", at::ones({2, 2}, at::kBFloat16), false);
  expert.define("def forward(self, x: Tensor) -> Tensor:\n    return x * self.weight\n");
  expert.save((folder / "a.pt").string());
  const NamedTensors shared = {{"weight", at::full({2, 2}, 3.F).to(at::kBFloat16)}},
                     parts = {{"a/weight.lora_A", at::full({1, 2}, 0.25).to(at::kBFloat16)},
                              {"a/weight.lora_B", at::ones({2, 1}, at::kBFloat16)}};
  save_multitask(folder / "m.pt", {{"a", folder / "a.pt"}}, shared, parts);
  const auto task = open_multitask(folder / "m.pt", "a", at::kCPU);
  EXPECT_TRUE(at::equal(task->parameters().at("weight"), at::full({2, 2}, 3.25F).to(at::kBFloat16)));
}

TEST(TaskSwitchNames, AreAttributesOfCode) {
  for (const char* good : {"weight", "_w", "lora_A", "x1"}) EXPECT_TRUE(is_attribute_name(good)) << good;
  for (const char* bad : {"", "0", "1x", "class", "a-b", "a b", "größe"}) EXPECT_FALSE(is_attribute_name(bad)) << bad;
}

}  // namespace
}  // namespace amalgam
