#include "models/torchscript_runner.h"

#include <torch/csrc/jit/passes/constant_propagation.h>

#include <cmath>

#include "core/atomic_file.h"
#include "core/safetensors.h"
#include "expect_error.h"
#include "memory_batches.h"
#include "python.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using torch::jit::Module;

/// y = W x + b + shift, with a buffer.
Module affine() {
  Module module("Affine");
  module.register_attribute("training", c10::BoolType::get(), true);
  module.register_parameter("weight", at::arange(6, at::kFloat).view({2, 3}), false);
  module.register_parameter("bias", at::tensor({1.F, -1.F}), false);
  module.register_buffer("shift", at::full({2}, 10.F));
  module.define(
      "def forward(self, x: Tensor) -> Tensor:\n    return torch.linear(x, self.weight, self.bias) + self.shift\n");
  return module;
}

/// Uses one weight under two names.
Module tied(const at::Tensor& first, const at::Tensor& second) {
  Module module("Tied");
  module.register_parameter("first", first, false);
  module.register_parameter("second", second, false);
  module.define(
      "def forward(self, x: Tensor) -> Tensor:\n    return torch.linear(torch.linear(x, self.first), self.second)\n");
  return module;
}

TEST(TorchScriptRunner, OpensInEvaluationModeWithoutGradients) {
  const TemporaryFolder folder;
  affine().save((folder / "m.pt").string());
  const auto model = open_model(folder / "m.pt", at::kCPU);
  EXPECT_EQ(model->parameter_names(), (std::vector<std::string>{"weight", "bias"}));
  EXPECT_TRUE(model->buffers().contains("shift"));
  EXPECT_EQ(model->buffers().size(), 1U);
  for (const auto& [name, tensor] : model->parameters()) EXPECT_FALSE(tensor.requires_grad()) << name;
  EXPECT_FALSE(dynamic_cast<TorchScriptRunner&>(*model).module().is_training());
}

TEST(TorchScriptRunner, PassesInputsByPosition) {
  const auto model = runner_from_module(affine());
  const at::Tensor output = model->forward(batch_of(at::tensor({1.F, 1.F, 2.F}).view({1, 3})));
  EXPECT_TRUE(at::equal(output, at::tensor({5.F + 11, 17.F + 9}).view({1, 2})));
}

TEST(TorchScriptRunner, NamesATiedParameterOnceByItsFirstName) {
  const at::Tensor weight = at::eye(3);
  for (const at::Tensor& other : {weight, weight.view({3, 3})}) {
    const auto model = runner_from_module(tied(weight, other));
    EXPECT_EQ(model->parameter_names(), std::vector<std::string>{"first"});
    EXPECT_EQ(model->aliases(), (std::map<std::string, std::string>{{"second", "first"}}));
    EXPECT_EQ(model->parameters().size(), 1U);
  }
  const auto apart = runner_from_module(tied(weight, weight.clone()));
  EXPECT_EQ(apart->parameter_names().size(), 2U);
}

TEST(TorchScriptRunner, GradientsOfBothUsesOfATiedParameterMeet) {
  const at::Tensor weight = at::full({1, 1}, 3.F);
  const auto model = runner_from_module(tied(weight, weight.view({1, 1})));  // two tensor objects, one memory
  const at::Tensor first = model->parameters().at("first").requires_grad_(true);
  model->forward(batch_of(at::ones({1, 1}))).sum().backward();
  EXPECT_EQ(first.grad().item<float>(), 6.F);  // d(w²)/dw
}

TEST(TorchScriptRunner, SetCopiesIntoTheLiveTensors) {
  const auto model = runner_from_module(affine());
  const at::Tensor live = model->parameters().at("bias");
  model->set({{"bias", at::tensor({4.F, 5.F})}, {"shift", at::zeros({2})}});
  EXPECT_TRUE(at::equal(live, at::tensor({4.F, 5.F})));
  EXPECT_TRUE(at::equal(model->buffers().at("shift"), at::zeros({2})));
}

TEST(TorchScriptRunner, SetRefusesWhatDoesNotFitAndChangesNothing) {
  const auto model = runner_from_module(affine());
  const auto refusal = [&](const std::string& name, const at::Tensor& value) {
    return input_error_of([&] { model->set({{"bias", at::zeros({2})}, {name, value}}); });
  };
  EXPECT_THAT(refusal("wieght", at::zeros({2, 3})), HasSubstr("'weight'"));
  EXPECT_THAT(refusal("weight", at::zeros({3, 2})), AllOf(HasSubstr("[2, 3]"), HasSubstr("[3, 2]")));
  EXPECT_THAT(refusal("weight", at::zeros({2, 3}, at::kHalf)),
              AllOf(HasSubstr(describe({at::kFloat, {2, 3}})), HasSubstr(describe({at::kHalf, {2, 3}}))));
  EXPECT_TRUE(at::equal(model->parameters().at("bias"), at::tensor({1.F, -1.F})));
}

TEST(TorchScriptRunner, SavesWhatItReadsBack) {
  const TemporaryFolder folder;
  const auto model = runner_from_module(affine());
  model->set({{"weight", at::full({2, 3}, 0.1F)}, {"shift", at::full({2}, 7.F)}});
  model->save(folder / "saved.pt");
  EXPECT_FALSE(model->parameters().at("weight").requires_grad());
  const auto again = open_model(folder / "saved.pt", at::kCPU);
  EXPECT_TRUE(at::equal(again->parameters().at("weight"), at::full({2, 3}, 0.1F)));
  EXPECT_TRUE(at::equal(again->buffers().at("shift"), at::full({2}, 7.F)));
  for (const auto& parameter : torch::jit::load((folder / "saved.pt").string()).named_parameters())
    EXPECT_TRUE(parameter.value.requires_grad()) << parameter.name;
}

TEST(TorchScriptRunner, SavesATiedParameterOnce) {
  const TemporaryFolder folder;
  const at::Tensor weight = at::randn({256, 256});
  runner_from_module(tied(weight, weight.view({256, 256})))->save(folder / "tied.pt");
  EXPECT_LT(std::filesystem::file_size(folder / "tied.pt"), 256 * 256 * 4 + 16384);
  EXPECT_EQ(open_model(folder / "tied.pt", at::kCPU)->aliases().size(), 1U);
}

TEST(TorchScriptRunner, MovesDeviceConstantsAndSavesThemForTheCpu) {
  const TemporaryFolder folder;
  Module module = affine();
  module.define(
      "def shifted(self, x: Tensor) -> Tensor:\n    return x + torch.zeros([x.size(0)], device=torch.device('cpu'))\n");
  std::shared_ptr<torch::jit::Graph> graph = module.get_method("shifted").graph();
  torch::jit::ConstantPropagation(graph);  // now the device is as tracing writes it
  const auto device_in = [](const Module& in) {
    for (const torch::jit::Node* node : in.get_method("shifted").graph()->nodes())
      if (node->output()->type()->kind() == c10::TypeKind::DeviceObjType) return node->s(torch::jit::attr::value);
    return std::string("none");
  };
  const TorchScriptRunner runner(module, at::Device("cuda:1"), "m.pt");  // the code alone knows the device
  EXPECT_EQ(device_in(runner.module()), "cuda:1");
  runner.save(folder / "m.pt");
  EXPECT_EQ(device_in(runner.module()), "cuda:1");
  EXPECT_EQ(device_in(torch::jit::load((folder / "m.pt").string())), "cpu");
}

TEST(TorchScriptRunner, RefusesAParameterThatIsNotFinite) {
  for (const float bad : {NAN, INFINITY}) {
    const TemporaryFolder folder;
    Module module = affine();
    module.attr("bias").toTensor()[1] = bad;
    module.save((folder / "bad.pt").string());
    EXPECT_THAT(input_error_of([&] { open_model(folder / "bad.pt", at::kCPU); }),
                AllOf(HasSubstr("bad.pt"), HasSubstr("'bias'"), HasSubstr("not finite")));
  }
}

TEST(TorchScriptRunner, RefusesAFileThatIsMissingAFolderOrNoTorchScript) {
  const TemporaryFolder folder;
  EXPECT_THAT(input_error_of([&] { open_model(folder / "none.pt", at::kCPU); }),
              AllOf(HasSubstr("none.pt"), HasSubstr("no such file")));
  EXPECT_THAT(input_error_of([&] { open_model(folder.path(), at::kCPU); }), HasSubstr("not a file"));
  for (const std::string& content : {std::string(), std::string("garbage"), std::string(100000, 'x')}) {
    write_file(folder / "bad.pt", content);
    EXPECT_THAT(input_error_of([&] { open_model(folder / "bad.pt", at::kCPU); }),
                AllOf(HasSubstr("bad.pt: not a TorchScript file"), Not(HasSubstr("\n"))));
  }
}

TEST(TorchScriptRunner, RefusesATruncatedFile) {
  const TemporaryFolder folder;
  affine().save((folder / "whole.pt").string());
  const std::string whole = read_file(folder / "whole.pt");
  for (size_t part = 1; part < 10; ++part) {
    write_file(folder / "cut.pt", whole.substr(0, whole.size() * part / 10));
    EXPECT_THAT(input_error_of([&] { open_model(folder / "cut.pt", at::kCPU); }),
                AllOf(HasSubstr("cut.pt"), HasSubstr("damaged"), Not(HasSubstr("\n"))));
  }
}

TEST(TorchScriptRunner, SaysInOneLineWhyItCannotRunInputs) {
  const auto model = runner_from_module(affine());
  const auto refusal = [&](const Batch& batch) { return input_error_of([&] { model->forward(batch); }); };
  EXPECT_THAT(refusal(batch_of(at::zeros({2, 4}))),
              AllOf(HasSubstr(describe({at::kFloat, {2, 4}})), HasSubstr("shapes"), Not(HasSubstr("\n"))));
  EXPECT_THAT(refusal(Batch{}), AllOf(HasSubstr("missing"), Not(HasSubstr("\n"))));
}

TEST(TorchScriptRunner, TakesTheOutputThatWasChosenFromSeveralTensors) {
  Module module("Pair");
  module.register_parameter("weight", at::ones({1}), false);
  module.define("def forward(self, x: Tensor):\n    return x, self.weight\n");
  EXPECT_THAT(input_error_of([&] {
                runner_from_module(module)->forward(batch_of(at::zeros({2, 1})));
              }),
              AllOf(HasSubstr("Tuple[Tensor, Tensor]"), HasSubstr("'1'"), HasSubstr("`output`")));
  const at::Tensor input = at::full({2, 1}, 3.F);
  EXPECT_TRUE(at::equal(runner_from_module(module, at::kCPU, {.output = "0"})->forward(batch_of(input)), input));
  EXPECT_TRUE(
      at::equal(runner_from_module(module, at::kCPU, {.output = "1"})->forward(batch_of(input)), at::ones({1})));
}

/// y = x · scale + shift + bias, shift optional.
Module with_options() {
  Module module("Options");
  module.register_parameter("bias", at::ones({1}), false);
  module.define(R"(
def forward(self, x: Tensor, scale: Tensor, shift: Optional[Tensor] = None) -> Tensor:
    y = x * scale + self.bias
    if shift is not None:
        y = y + shift
    return y
)");
  return module;
}

TEST(TorchScriptRunner, PassesNamedInputsByName) {
  const auto model = runner_from_module(with_options());
  Batch batch = batch_of(at::full({1, 1}, 2.F));
  batch.named_inputs = {{"scale", at::full({1, 1}, 5.F)}};
  EXPECT_EQ(model->forward(batch).item<float>(), 11);
  batch.named_inputs["shift"] = at::full({1, 1}, 100.F);
  EXPECT_EQ(model->forward(batch).item<float>(), 111);
  batch.named_inputs["x"] = batch.inputs[0];
  batch.inputs.clear();
  EXPECT_EQ(model->forward(batch).item<float>(), 111);
}

TEST(TorchScriptRunner, RefusesInputsThatForwardDoesNotTake) {
  const auto model = runner_from_module(with_options());
  const at::Tensor one = at::ones({1, 1});
  const auto refusal = [&](std::vector<at::Tensor> inputs, std::map<std::string, at::Tensor> named) {
    Batch batch;
    batch.inputs = std::move(inputs);
    batch.named_inputs = std::move(named);
    batch.count = 1;
    return input_error_of([&] { model->forward(batch); });
  };
  EXPECT_THAT(refusal({one}, {{"scales", one}}), HasSubstr("no input 'scales', did you mean 'scale'?"));
  EXPECT_THAT(refusal({one}, {{"shift", one}}), AllOf(HasSubstr("'scale' is missing"), HasSubstr("input.1")));
  EXPECT_THAT(refusal({one, one}, {{"x", one}}), HasSubstr("'x' is given twice"));
  EXPECT_THAT(refusal({one, one, one, one}, {}), AllOf(HasSubstr("4 inputs"), HasSubstr("x, scale, shift")));
  EXPECT_THAT(refusal({at::ones({1, 2}), at::ones({1, 3})}, {}), HasSubstr("does not run on inputs"));
}

/// Models exported by Python.
class ExportedModels : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (!std::filesystem::exists(kPython)) return;
    folder_ = std::make_unique<TemporaryFolder>();
    ASSERT_TRUE(run_python("make_models.py", folder_->path().string()));
  }
  static void TearDownTestSuite() { folder_.reset(); }
  void SetUp() override {
    if (!folder_) GTEST_SKIP() << "there is no " << kPython;
  }
  static std::filesystem::path file(const std::string& name) { return *folder_ / name; }

  static inline std::unique_ptr<TemporaryFolder> folder_;
};

TEST_F(ExportedModels, ScriptedAndTracedModelsGiveTheirOutputs) {
  const SafetensorsFile expected(file("expected.safetensors"));
  for (const char* name : {"scripted.pt", "traced.pt"}) {
    const auto model = open_model(file(name), at::kCPU);
    EXPECT_EQ(model->parameter_names(), (std::vector<std::string>{"embedding.weight", "position.weight"})) << name;
    EXPECT_EQ(model->aliases(), (std::map<std::string, std::string>{{"output.weight", "embedding.weight"}})) << name;
    const at::Tensor output = model->forward(batch_of(expected.get("input")));
    EXPECT_TRUE(at::allclose(output, expected.get("output"), 0, 1e-6)) << name;
  }
}

TEST_F(ExportedModels, TracedModelRunsOnAGpuAndItsSavedFileOnTheCpu) {
  if (!at::hasCUDA()) GTEST_SKIP() << "there is no GPU";
  const SafetensorsFile expected(file("expected.safetensors"));
  const auto model = open_model(file("traced.pt"), at::Device("cuda:0"));
  const at::Tensor output = model->forward(batch_of(expected.get("input")).to(model->device()));
  EXPECT_TRUE(at::allclose(output.cpu(), expected.get("output"), 0, 1e-5));
  model->save(file("from_gpu.pt.saved"));
  const auto again = open_model(file("from_gpu.pt.saved"), at::kCPU);
  EXPECT_EQ(again->aliases().size(), 1U);
  EXPECT_TRUE(at::allclose(again->forward(batch_of(expected.get("input"))), expected.get("output"), 0, 1e-6));
}

TEST_F(ExportedModels, RefusesAFrozenModelAndSaysToExportItUnfrozen) {
  EXPECT_THAT(input_error_of([] { open_model(file("frozen.pt"), at::kCPU); }),
              AllOf(HasSubstr("frozen.pt"), HasSubstr("export it unfrozen")));
}

TEST_F(ExportedModels, RefusesAStateDictAndSaysWhatIsExpected) {
  EXPECT_THAT(input_error_of([] { open_model(file("state_dict.pt"), at::kCPU); }),
              AllOf(HasSubstr("not a TorchScript file"), HasSubstr("torch.jit.script"), Not(HasSubstr("\n"))));
}

TEST_F(ExportedModels, GiveTheOutputThatWasChosen) {
  const SafetensorsFile expected(file("expected.safetensors"));
  const at::Tensor tokens = expected.get("input");
  const std::vector<std::pair<const char*, const char*>> cases = {
      {"scripted_dict.pt", "logits"}, {"traced_dict.pt", "logits"}, {"scripted_tuple.pt", "1"},
      {"traced_tuple.pt", "1"},       {"named_tuple.pt", "logits"}, {"named_tuple.pt", "1"},
      {"single_dict.pt", ""},         {"single_tuple.pt", ""},      {"list.pt", "1"},
      {"object.pt", "logits"}};
  for (const auto& [name, output] : cases) {
    const auto model = open_model(file(name), at::kCPU, {.output = output});
    EXPECT_TRUE(at::allclose(model->forward(batch_of(tokens)), expected.get("output"), 0, 1e-6)) << name;
  }
}

TEST_F(ExportedModels, SayWhatTheyReturnWhereTheChoiceIsMissingOrWrong) {
  const SafetensorsFile expected(file("expected.safetensors"));
  const auto refusal = [&](const char* name, const std::string& output) {
    const auto model = open_model(file(name), at::kCPU, {.output = output});
    return input_error_of([&] { model->forward(batch_of(expected.get("input"))); });
  };
  const std::string shape = describe({at::kFloat, {3, 5, 11}});
  EXPECT_THAT(refusal("traced_dict.pt", ""), AllOf(HasSubstr("'hidden'"), HasSubstr("'logits' (" + shape + ")")));
  EXPECT_THAT(refusal("scripted_dict.pt", "logit"), AllOf(HasSubstr("no 'logit'"), HasSubstr("'logits'")));
  EXPECT_THAT(refusal("named_tuple.pt", ""), AllOf(HasSubstr("'hidden'"), HasSubstr("'logits'")));
  EXPECT_THAT(refusal("traced_tuple.pt", "2"), HasSubstr("no '2'"));
  EXPECT_THAT(refusal("scripted.pt", "logits"), HasSubstr("leave `output` out"));
}

TEST_F(ExportedModels, SaveWhatReturnsAsBefore) {
  const SafetensorsFile expected(file("expected.safetensors"));
  for (const char* name : {"traced_dict.pt", "named_tuple.pt"}) {
    const auto saved = file(std::string(name) + ".saved");
    open_model(file(name), at::kCPU)->save(saved);
    const auto model = open_model(saved, at::kCPU, {.output = "logits"});
    EXPECT_TRUE(at::allclose(model->forward(batch_of(expected.get("input"))), expected.get("output"), 0, 1e-6));
  }
}

TEST_F(ExportedModels, TakeInputsByKeyword) {
  const SafetensorsFile expected(file("expected.safetensors"));
  for (const char* name : {"keyword_scripted.pt", "keyword_traced.pt"}) {
    const auto model = open_model(file(name), at::kCPU);
    Batch batch;
    batch.count = 3;
    batch.named_inputs = {{"input_ids", expected.get("input")}, {"attention_mask", expected.get("mask")}};
    EXPECT_TRUE(at::allclose(model->forward(batch), expected.get("masked_output"), 0, 1e-6)) << name;
    batch.named_inputs.erase("attention_mask");
    EXPECT_THAT(input_error_of([&] { model->forward(batch); }), HasSubstr("'attention_mask' is missing")) << name;
  }
}

}  // namespace
}  // namespace amalgam
