#include "models/artefact.h"

#include "core/safetensors.h"
#include "expect_error.h"
#include "memory_batches.h"
#include "models/architectures/architecture.h"
#include "models/torchscript_runner.h"
#include "python.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using torch::jit::Module;

constexpr int64_t kSide = 8;

/// Three experts with heads of 2, 3 and 4 classes, batch norm, and merged tensors for all of their bodies.
class Multitask : public testing::Test {
 protected:
  Multitask() {
    for (const std::string task : {"left", "right", "dim"}) {
      const auto classes = static_cast<int64_t>(2 + tasks_.size());
      const auto expert = make_architecture("convolutional", YAML::Load("{channels: [16, 128, 128], norm: batch}"),
                                            {1, kSide, kSide}, classes, tasks_.size());
      expert->save(folder_ / (task + ".pt"));
      tasks_.push_back({task, folder_ / (task + ".pt")});
      NamedTensors tensors = expert->parameters();
      tensors.merge(expert->buffers());
      for (const auto& [name, tensor] : tensors)
        if (name.starts_with("body.")) merged_[name] = at::rand(tensor.sizes()) * 0.1;
    }
  }

  /// What the task's expert gives with the merged body.
  at::Tensor expected(const TaskModel& task) const {
    const auto expert = open_model(task.expert, at::kCPU);
    expert->set(merged_);
    return expert->forward(batch_of(images_));
  }

  TemporaryFolder folder_;
  std::vector<TaskModel> tasks_;
  NamedTensors merged_;
  at::Tensor images_ = at::rand({3, 1, kSide, kSide});
};

TEST_F(Multitask, EachTaskRunsTheMergedBodyAndItsOwnHead) {
  save_multitask(folder_ / "merged.pt", tasks_, merged_);
  EXPECT_EQ(multitask_names(folder_ / "merged.pt"), (std::vector<std::string>{"left", "right", "dim"}));
  Module whole = torch::jit::load((folder_ / "merged.pt").string());
  for (const TaskModel& task : tasks_) {
    const at::Tensor output = open_multitask(folder_ / "merged.pt", task.task, at::kCPU)->forward(batch_of(images_));
    EXPECT_TRUE(at::equal(output, expected(task))) << task.task;
    EXPECT_TRUE(at::equal(whole.forward({task.task, images_}).toTensor(), output)) << task.task;
  }
}

TEST_F(Multitask, StoresSharedParametersAndBuffersOnce) {
  save_multitask(folder_ / "merged.pt", tasks_, merged_);
  const auto size = [&](const std::string& name) { return std::filesystem::file_size(folder_ / name); };
  EXPECT_LT(size("merged.pt"), size("dim.pt") * 5 / 4);
  const Module whole = torch::jit::load((folder_ / "merged.pt").string());
  std::set<const void*> places;
  for (const auto& buffer : whole.named_buffers()) places.insert(buffer.value.const_data_ptr());
  for (const auto& parameter : whole.named_parameters()) places.insert(parameter.value.const_data_ptr());
  EXPECT_EQ(places.size(), merged_.size() + 2 * tasks_.size());
}

TEST_F(Multitask, DoesNotStoreTheMemoryBehindAView) {
  for (auto& [name, tensor] : merged_) tensor = at::stack({tensor, tensor, tensor, tensor})[1];
  save_multitask(folder_ / "merged.pt", tasks_, merged_);
  EXPECT_LT(std::filesystem::file_size(folder_ / "merged.pt"), std::filesystem::file_size(folder_ / "dim.pt") * 5 / 4);
}

TEST_F(Multitask, LeavesTheMergedTensorsAsTheyWere) {
  save_multitask(folder_ / "merged.pt", tasks_, merged_);
  for (const auto& [name, tensor] : merged_) EXPECT_FALSE(tensor.requires_grad()) << name;
}

TEST_F(Multitask, OneTaskIsSavedAsAModelOfItsOwn) {
  save_multitask(folder_ / "merged.pt", tasks_, merged_);
  open_multitask(folder_ / "merged.pt", "right", at::kCPU)->save(folder_ / "alone.pt");
  const auto alone = open_model(folder_ / "alone.pt", at::kCPU);
  EXPECT_EQ(alone->parameter_names(), open_model(tasks_[1].expert, at::kCPU)->parameter_names());
  EXPECT_TRUE(at::equal(alone->forward(batch_of(images_)), expected(tasks_[1])));
}

TEST_F(Multitask, GivesTheSameOutputsInPython) {
  if (!std::filesystem::exists(kPython)) GTEST_SKIP() << "there is no " << kPython;
  const TemporaryFolder out;
  save_multitask(out / "merged.pt", tasks_, merged_);
  NamedTensors tensors = {{"input", images_}};
  for (const TaskModel& task : tasks_) tensors["output." + task.task] = expected(task);
  write_safetensors(out / "merged.safetensors", tensors);
  EXPECT_TRUE(run_python("compare_outputs.py", out.path().string()));
}

TEST_F(Multitask, NamesTheKnownTasksForAnUnknownOne) {
  save_multitask(folder_ / "merged.pt", tasks_, merged_);
  EXPECT_THAT(input_error_of([&] { open_multitask(folder_ / "merged.pt", "lefd", at::kCPU); }), HasSubstr("'left'"));
  EXPECT_THAT(input_error_of([&] { open_model(folder_ / "merged.pt", at::kCPU); }), HasSubstr("left, right, dim"));
  EXPECT_THAT(input_error_of([&] { open_multitask(folder_ / "left.pt", "left", at::kCPU); }), HasSubstr("one task"));
  Module whole = torch::jit::load((folder_ / "merged.pt").string());
  try {
    whole.forward({"lefd", images_});
    ADD_FAILURE() << "an unknown task ran";
  } catch (const std::exception& error) {
    EXPECT_THAT(error.what(), HasSubstr("unknown task: lefd (known: left, right, dim)"));
  }
}

TEST_F(Multitask, RefusesTensorsThatDoNotFitAndWritesNothing) {
  merged_["body.stages.0.norm.weight"] = at::zeros({17});
  EXPECT_THAT(input_error_of([&] { save_multitask(folder_ / "merged.pt", tasks_, merged_); }),
              AllOf(HasSubstr("left.pt"), HasSubstr("[17]")));
  EXPECT_THAT(input_error_of([&] { save_merged(folder_ / "merged.pt", tasks_[0].expert, merged_); }),
              AllOf(HasSubstr("left.pt"), HasSubstr("[17]")));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "merged.pt"));
}

TEST_F(Multitask, RefusesTheSameTaskTwice) {
  tasks_.push_back(tasks_.front());
  EXPECT_THAT(input_error_of([&] { save_multitask(folder_ / "merged.pt", tasks_, merged_); }), HasSubstr("'left'"));
}

/// x · weight, with an optional second input.
Module scaling(const std::string& signature, const std::string& body = "x * self.weight") {
  Module module("Scaling");
  module.register_parameter("weight", at::ones({2}), false);
  module.register_parameter("again", module.attr("weight").toTensor(), false);
  module.define(fmt::format("def forward(self, {}):\n    return {}\n", signature, body));
  return module;
}

TEST(Artefact, MultitaskTakesTheInputsOfTheExperts) {
  const TemporaryFolder folder;
  const std::string signature = "x: Tensor, mask: Optional[Tensor] = None, power: int = 2, flip: bool = True";
  scaling(signature, "torch.pow(x, power) * self.weight if mask is None else mask * self.again")
      .save((folder / "a.pt").string());
  save_multitask(folder / "merged.pt", {{"a", folder / "a.pt"}, {"b", folder / "a.pt"}},
                 {{"weight", at::full({2}, 3.F)}});
  Module merged = torch::jit::load((folder / "merged.pt").string());
  const at::Tensor x = at::tensor({1.F, 2.F});
  EXPECT_TRUE(at::equal(merged.forward({"b", x}).toTensor(), at::tensor({3.F, 12.F})));
  EXPECT_TRUE(
      at::equal(merged.forward({"a", x, x + 1}).toTensor(), at::tensor({6.F, 9.F})));  // the alias is merged, too
  EXPECT_TRUE(at::equal(merged.forward({"a", x, c10::IValue(), 3}).toTensor(), at::tensor({3.F, 24.F})));
}

TEST(Artefact, MultitaskKeepsDefaultsOfEveryType) {
  const TemporaryFolder folder;
  const std::string signature = R"(x: Tensor, mode: str = 'a"b\'', parts: List[str] = ['c', 'd'], none: List[int] = [],
    limit: float = float('inf'), limits: List[float] = [float('-inf'), 0.5], share: float = 1.0)";
  scaling(signature,
          R"(x * self.weight if mode == 'a"b\'' and parts == ['c', 'd'] and len(none) == 0 and limit > 1e300 and)"
          " limits[0] < -1e300 and limits[1] + share == 1.5 else x")
      .save((folder / "a.pt").string());
  const std::vector<TaskModel> tasks = {{"a", folder / "a.pt"}, {"b", folder / "a.pt"}};
  EXPECT_NO_THROW(check_multitask(tasks, false));
  save_multitask(folder / "merged.pt", tasks, {{"weight", at::full({2}, 3.F)}});
  Module merged = torch::jit::load((folder / "merged.pt").string());
  EXPECT_TRUE(at::equal(merged.forward({"b", at::ones({2})}).toTensor(), at::full({2}, 3.F)));
}

TEST(Artefact, ADefaultThatNoCodeCanSayIsRefusedBeforeAnythingIsMerged) {
  const TemporaryFolder folder;
  scaling("x: Tensor, scale: Tensor = torch.ones([2])").save((folder / "a.pt").string());
  EXPECT_THAT(input_error_of([&] {
                check_multitask({{"a", folder / "a.pt"}}, false);
              }),
              AllOf(HasSubstr("a.pt"), HasSubstr("default of the model's input 'scale'")));
}

TEST(Artefact, MergedModelOfManyTasksTakesKeywordsAndReturnsWhatTheExpertsReturned) {
  const TemporaryFolder folder;
  Module expert("Expert");
  expert.register_parameter("weight", at::ones({2}), false);
  expert.define(R"(
def forward(self, x: Tensor, *, scale: Tensor) -> Dict[str, Tensor]:
    return {'logits': x * scale * self.weight, 'scaled': x * scale}
)");
  expert.save((folder / "a.pt").string());
  save_multitask(folder / "m.pt", {{"a", folder / "a.pt"}, {"b", folder / "a.pt"}}, {{"weight", at::full({2}, 3.F)}});
  Batch batch = batch_of(at::tensor({1.F, 2.F}));
  batch.named_inputs = {{"scale", at::full({2}, 10.F)}};
  const auto model = open_multitask(folder / "m.pt", "b", at::kCPU, {.output = "logits"});
  EXPECT_TRUE(at::equal(model->forward(batch), at::tensor({30.F, 60.F})));
  Module whole = torch::jit::load((folder / "m.pt").string());
  const auto returned = whole.forward({"a", batch.inputs[0]}, {{"scale", batch.named_inputs.at("scale")}});
  EXPECT_TRUE(at::equal(returned.toGenericDict().at("scaled").toTensor(), at::tensor({10.F, 20.F})));
}

TEST(Artefact, RefusesExpertsThatTakeDifferentInputs) {
  const TemporaryFolder folder;
  scaling("x: Tensor").save((folder / "a.pt").string());
  scaling("x: Tensor, y: Tensor").save((folder / "b.pt").string());
  scaling("task: Tensor", "task * self.weight").save((folder / "c.pt").string());
  EXPECT_THAT(input_error_of([&] {
                save_multitask(folder / "m.pt", {{"a", folder / "a.pt"}, {"b", folder / "b.pt"}}, {});
              }),
              AllOf(HasSubstr("b.pt"), HasSubstr("y: Tensor"), HasSubstr("a.pt")));
  EXPECT_THAT(input_error_of([&] {
                save_multitask(folder / "m.pt", {{"c", folder / "c.pt"}}, {});
              }),
              HasSubstr("called 'task'"));
}

TEST(Artefact, WhetherModelsCanBecomeOneFileIsKnownBeforeAnythingIsMerged) {
  const TemporaryFolder folder;
  scaling("x: Tensor").save((folder / "a.pt").string());
  scaling("x: Tensor, y: Tensor").save((folder / "b.pt").string());
  scaling("x: Tensor, power: int = 2").save((folder / "power.pt").string());
  scaling("x: Tensor", "{'one': x * self.weight}").save((folder / "dict.pt").string());
  const auto refusal = [&](const std::string& first, const std::string& second, bool routed) {
    return input_error_of([&] { check_multitask({{"a", folder / first, "one"}, {"b", folder / second}}, routed); });
  };
  EXPECT_NO_THROW(check_multitask({{"a", folder / "a.pt"}, {"b", folder / "a.pt"}}, true));
  EXPECT_NO_THROW(check_multitask({{"a", folder / "power.pt"}, {"b", folder / "power.pt"}}, false));
  EXPECT_NO_THROW(check_multitask({{"a", folder / "dict.pt", "one"}, {"b", folder / "dict.pt", "one"}}, true));
  EXPECT_THAT(refusal("a.pt", "b.pt", false), AllOf(HasSubstr("b.pt"), HasSubstr("y: Tensor"), HasSubstr("a.pt")));
  EXPECT_THAT(refusal("power.pt", "power.pt", true), AllOf(HasSubstr("power: int"), HasSubstr("leave `router` out")));
  EXPECT_THAT(refusal("dict.pt", "dict.pt", true), HasSubstr("of which `output` names one"));
}

TEST(Artefact, MergedModelIsTheTemplateWithMergedValues) {
  const TemporaryFolder folder;
  scaling("x: Tensor").save((folder / "expert.pt").string());
  save_merged(folder / "merged.pt", folder / "expert.pt", {{"weight", at::tensor({2.F, 5.F})}});
  const auto merged = open_model(folder / "merged.pt", at::kCPU);
  EXPECT_TRUE(at::equal(merged->forward(batch_of(at::ones({2}))), at::tensor({2.F, 5.F})));
  EXPECT_TRUE(at::equal(open_model(folder / "expert.pt", at::kCPU)->parameters().at("weight"), at::ones({2})));
}

TEST(Artefact, TaskNamesAreIdentifiersAndNoWordsOfTheLanguage) {
  for (const char* good : {"left", "Task_2", "a"}) EXPECT_NO_THROW(require_task_name(good)) << good;
  for (const char* bad : {"", "2nd", "left-hand", "a b", "_c", "x'", "größe", "a.b"})
    EXPECT_THAT(input_error_of([&] { require_task_name(bad); }), HasSubstr("a letter")) << bad;
  for (const char* bad : {"class", "None", "lambda", "self", "training", "forward"})
    EXPECT_THAT(input_error_of([&] { require_task_name(bad); }), HasSubstr("reserved")) << bad;
}

}  // namespace
}  // namespace amalgam
