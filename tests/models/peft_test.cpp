#include "models/peft.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/low_rank.h"
#include "core/safetensors.h"
#include "expect_error.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

/// A base of one layer [3, 2] and a vector for it, and a folder for adapters.
class Peft : public testing::Test {
 protected:
  PeftAdapter read() const { return read_peft(folder_.path(), {names_, infos_, original_}); }
  void write(const NamedTensors& tensors, const json& changes = json::object()) const {
    json config = {{"peft_type", "LORA"}, {"r", 1}, {"lora_alpha", 4}, {"target_modules", {"fc"}}, {"bias", "none"}};
    config.update(changes);
    write_file(folder_ / "adapter_config.json", config.dump());
    write_safetensors(folder_ / "adapter_model.safetensors", tensors);
  }

  const at::Tensor down_ = at::tensor({1.0F, 2.0F}).view({1, 2}), up_ = at::tensor({1.0F, 0.0F, -1.0F}).view({3, 1});
  const NamedTensors whole_ = {{"base_model.model.fc.lora_A.weight", down_},
                               {"base_model.model.fc.lora_B.weight", up_}};
  const NamedTensors base_ = {
      {"body.fc.weight", at::ones({3, 2})}, {"body.fc.bias", at::ones({3})}, {"body.fc.ia3_l", at::ones({3})}};
  const std::vector<std::string> names_ = {"body.fc.weight", "body.fc.bias", "body.fc.ia3_l"};
  const std::map<std::string, TensorInfo> infos_ = MemoryTensors(base_).infos();
  OriginalNames original_;
  TemporaryFolder folder_;
};

TEST_F(Peft, FoldsTheScaledProductIntoTheBase) {
  write(whole_);
  const PeftAdapter adapter = read();
  const NamedTensors changed = with_adapter(MemoryTensors(base_), adapter);
  ASSERT_EQ(changed.size(), 1U);
  // 1 + 4 b aᵀ
  const at::Tensor expected = at::tensor({5.0F, 9.0F, 1.0F, 1.0F, -3.0F, -7.0F}).view({3, 2});
  EXPECT_TRUE(at::equal(changed.at("body.fc.weight"), expected));
}

TEST_F(Peft, ScalesByTheRootOfTheRankWhereItSaysSo) {
  const NamedTensors two = {{"base_model.model.fc.lora_A.weight", at::ones({4, 2})},
                            {"base_model.model.fc.lora_B.weight", at::ones({3, 4})}};
  for (const bool rslora : {false, true}) {
    write(two, {{"r", 4}, {"lora_alpha", 8}, {"use_rslora", rslora}});
    const at::Tensor weight = with_adapter(MemoryTensors(base_), read()).at("body.fc.weight");
    EXPECT_EQ(weight[0][0].item<float>(), rslora ? 1 + 4 * 4 : 1 + 4 * 2);
  }
}

TEST_F(Peft, ReadsWhatItWrites) {
  const NamedTensors factors = {{"body.fc.weight.lora_A", down_}, {"body.fc.weight.lora_B", up_}};
  write_lora(folder_.path(), factors, {1, 0.5, false}, original_, "base.pt");
  const PeftAdapter adapter = read();
  EXPECT_TRUE(at::equal(adapter.factors.at("body.fc.weight.lora_A"), down_));
  EXPECT_TRUE(at::equal(adapter.factors.at("body.fc.weight.lora_B"), 0.5 * up_));
  const json config = json::parse(read_file(folder_ / "adapter_config.json"));
  EXPECT_EQ(config.at("target_modules"), json({"body.fc"}));
  EXPECT_EQ(config.at("base_model_name_or_path"), "base.pt");
  EXPECT_EQ(config.at("r"), 1);
  EXPECT_EQ(config.at("lora_alpha"), 0.5);
  const SafetensorsFile file(folder_ / "adapter_model.safetensors");
  EXPECT_TRUE(file.contains("base_model.model.body.fc.lora_A.weight"));
  EXPECT_EQ(file.metadata().at("format"), "pt");
}

TEST_F(Peft, ReadsVectorsOfOutputsAndOfFeedForwardInputs) {
  const at::Tensor vector = at::tensor({1.0F, 2.0F, 3.0F});
  for (const bool of_input : {false, true}) {
    NamedTensors base = base_;
    base["body.fc.weight"] = of_input ? at::ones({2, 3}) : at::ones({3, 2});
    const auto infos = MemoryTensors(base).infos();
    const auto read_shape = [&](bool is_column) {
      write({{"base_model.model.fc.ia3_l", vector.view({is_column ? 3 : 1, is_column ? 1 : 3})}},
            {{"peft_type", "IA3"}});
      return read_peft(folder_.path(), {names_, infos, original_});
    };
    const NamedTensors changed = with_adapter(MemoryTensors(base), read_shape(!of_input));
    ASSERT_EQ(changed.size(), 1U);
    EXPECT_TRUE(at::equal(changed.at("body.fc.ia3_l"), vector));
    EXPECT_THAT(input_error_of([&] { read_shape(of_input); }),
                AllOf(HasSubstr("'body.fc.ia3_l' of the base scales the " + std::string(of_input ? "input" : "output")),
                      HasSubstr("feedforward_modules")));
  }
}

TEST_F(Peft, ReadsAVectorOfEitherSideWhereTheBaseDoesNotTell) {
  NamedTensors base = base_;
  base["body.fc.weight"] = at::ones({3, 3});
  const auto infos = MemoryTensors(base).infos();
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{3, 1}, {1, 3}}) {
    write({{"base_model.model.fc.ia3_l", at::ones(shape)}}, {{"peft_type", "IA3"}});
    EXPECT_EQ(read_peft(folder_.path(), {names_, infos, original_}).vectors.size(), 1U);
  }
}

TEST_F(Peft, ReadsTheVectorsThatItWrites) {
  const NamedTensors vectors = {{"body.fc.ia3_l", at::tensor({1.0F, 2.0F, 3.0F})}};
  write_ia3(folder_.path(), vectors, {names_, infos_, original_}, "base.pt");
  const SafetensorsFile file(folder_ / "adapter_model.safetensors");
  EXPECT_EQ(file.infos().at("base_model.model.body.fc.ia3_l").shape, (std::vector<int64_t>{3, 1}));  // of the output
  const json config = json::parse(read_file(folder_ / "adapter_config.json"));
  EXPECT_EQ(config.at("peft_type"), "IA3");
  EXPECT_EQ(config.at("target_modules"), json({"body.fc"}));
  EXPECT_EQ(config.at("feedforward_modules"), json::array());
  EXPECT_TRUE(at::equal(read().vectors.at("body.fc.ia3_l"), vectors.at("body.fc.ia3_l")));
}

TEST_F(Peft, TellsByTheLengthWhatAVectorScales) {
  const auto scaled = [&](const std::vector<int64_t>& weight, int64_t length) {
    const auto infos = MemoryTensors({{"fc.weight", at::ones(weight)}, {"fc.ia3_l", at::ones({length})}}).infos();
    return scales_input("fc.ia3_l", {{"fc.weight", "fc.ia3_l"}, infos, original_});
  };
  EXPECT_EQ(scaled({3, 2}, 3), false);
  EXPECT_EQ(scaled({3, 2}, 2), true);
  EXPECT_EQ(scaled({3, 2}, 4), std::nullopt);
  EXPECT_EQ(scaled({3, 3}, 3), std::nullopt);
}

TEST_F(Peft, TakesTheRecordsWordForWhatAVectorScales) {
  write_file(
      folder_ / "base.names.json",
      R"({"source": "a/b", "tensors": {"fc.weight": {"name": "inner.fc.weight"}}, "vectors": {"fc.ia3_l": "input"}})");
  const auto original = OriginalNames::of_model(folder_ / "base.pt");
  const std::vector<std::string> names = {"fc.weight", "fc.ia3_l"};
  const NamedTensors vectors = {{"fc.ia3_l", at::ones({3})}};
  const auto infos = MemoryTensors({{"fc.weight", at::ones({3, 3})}, {"fc.ia3_l", at::ones({3})}}).infos();
  write_ia3(folder_ / "out", vectors, {names, infos, original}, "base.pt");
  const json config = json::parse(read_file(folder_ / "out/adapter_config.json"));
  EXPECT_EQ(config.at("feedforward_modules"), json({"inner.fc"}));
  EXPECT_EQ(config.at("base_model_name_or_path"), "a/b");
  const SafetensorsFile file(folder_ / "out/adapter_model.safetensors");
  EXPECT_EQ(file.infos().at("base_model.model.inner.fc.ia3_l").shape, (std::vector<int64_t>{1, 3}));
  EXPECT_THAT(input_error_of([&] {
                write_ia3(folder_ / "no", vectors, {names, infos, original_}, "base.pt");
              }),
              HasSubstr("'fc.ia3_l'"));
}

TEST_F(Peft, RefusesWhatItsConfigurationCannotMean) {
  for (const auto& [changes, part] :
       std::vector<std::pair<json, std::string>>{{{{"use_dora", true}}, "use_dora"},
                                                 {{{"bias", "all"}}, "bias"},
                                                 {{{"modules_to_save", {"classifier"}}}, "modules_to_save"},
                                                 {{{"fan_in_fan_out", true}}, "fan_in_fan_out"},
                                                 {{{"rank_pattern", {{"fc", 4}}}}, "rank_pattern"},
                                                 {{{"alpha_pattern", {{"fc", 4}}}}, "alpha_pattern"},
                                                 {{{"init_lora_weights", "pissa"}}, "init_lora_weights"},
                                                 {{{"of_the_future", 3}}, "of_the_future"},
                                                 {{{"peft_type", "VERA"}}, "VERA"},
                                                 {{{"peft_type", 3}}, "peft_type"},
                                                 {{{"r", 0}}, "`r` is 0"},
                                                 {{{"r", "one"}}, "`r`"},
                                                 {{{"lora_alpha", nullptr}}, "lora_alpha"}}) {
    write(whole_, changes);
    EXPECT_THAT(input_error_of([&] { read(); }), AllOf(HasSubstr("adapter_config.json"), HasSubstr(part))) << changes;
  }
  write(whole_, {{"use_dora", false}, {"modules_to_save", nullptr}, {"of_the_future", json::array()}});
  EXPECT_NO_THROW(read());
}

TEST_F(Peft, RefusesTensorsThatDoNotFit) {
  const auto changed = [&](const std::string& name, const at::Tensor& tensor) {
    NamedTensors tensors = whole_;
    tensors[name] = tensor;
    return tensors;
  };
  const std::string down = "base_model.model.fc.lora_A.weight", up = "base_model.model.fc.lora_B.weight";
  for (const auto& [tensors, part] : std::vector<std::pair<NamedTensors, std::string>>{
           {changed(down, at::ones({2, 2})), "'" + down + "' is float32 [2, 2]"},
           {changed(up, at::ones({4, 1})), "'" + up + "' is float32 [4, 1]"},
           {changed(up, at::ones({3, 1}, at::kLong)), "int64"},
           {changed(up, at::full({3, 1}, NAN)), "not finite"},
           {changed("base_model.model.fc.lora_magnitude_vector", at::ones({3})), "lora_magnitude_vector"},
           {changed("base_model.model.other.lora_A.weight", down_), "module 'other'"},
           {changed("base_model.model.body.fc.lora_A.weight", down_), "two tensors are of 'body.fc.weight'"},
           {{{down, down_}}, "a factor A and no B"},
           {{{up, up_}}, "a factor B and no A"},
           {{}, "no tensor"}}) {
    write(tensors);
    EXPECT_THAT(input_error_of([&] { read(); }), AllOf(HasSubstr("adapter_model.safetensors"), HasSubstr(part)));
  }
}

TEST_F(Peft, RefusesAFolderThatIsNone) {
  EXPECT_THAT(input_error_of([&] { read(); }), AllOf(HasSubstr("adapter_config.json"), HasSubstr("save_pretrained")));
  write(whole_);
  write_file(folder_ / "adapter_config.json", "{\"r\": 1, \"r\": 2}");
  EXPECT_THAT(input_error_of([&] { read(); }), HasSubstr("'r'"));
  write_file(folder_ / "adapter_config.json", "[1]");
  EXPECT_THAT(input_error_of([&] { read(); }), HasSubstr("object"));
}

TEST_F(Peft, HasNoModuleForAWeightOfAnotherName) {
  EXPECT_THAT(
      input_error_of([&] {
        write_lora(folder_.path(), {{"w.lora_A", down_}, {"w.lora_B", up_}}, {1, 1, false}, original_, "base.pt");
      }),
      AllOf(HasSubstr("'w'"), HasSubstr(".weight")));
}

}  // namespace
}  // namespace amalgam
