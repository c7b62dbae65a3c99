#include "apps/hf_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/safetensors.h"
#include "expect_error.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

/// A base whose checkpoint has a half precision matrix that lies the other way round, a tied matrix, and a tensor that
/// the base lacks.
class HfFolderTest : public testing::Test {
 protected:
  void SetUp() override {
    names_ = {{"version", 1},
              {"kind", "encoder"},
              {"tensors",
               {{"body.fc.weight", {{"name", "fc.w"}, {"dtype", "bfloat16"}, {"shape", {3, 2}}, {"transposed", true}}},
                {"body.words.weight", {{"name", "words"}, {"dtype", "float32"}, {"shape", {2}}, {"transposed", false}}},
                {"body.count", {{"name", "count"}, {"dtype", "int64"}, {"shape", {1}}, {"transposed", false}}}}},
              {"aliases", {{"body.words.weight", "body.output.weight"}}},
              {"files", {"config.json", "pool/config.json"}},
              {"rest", "rest.safetensors"}};
    write_names();
    write_file(folder_ / "base.hf/config.json", "{}");
    write_file(folder_ / "base.hf/pool/config.json", "{\"pool\": 1}");
    write_safetensors(folder_ / "base.hf/rest.safetensors", {{"pooler", at::ones({2})}});
  }

  void write_names() { write_file(folder_ / "base.names.json", names_.dump()); }
  HfFolder open() { return {folder_ / "base.pt", folder_ / "out"}; }
  std::string refusal(const std::function<void()>& change) {
    change();
    write_names();
    return input_error_of([&] { open(); });
  }

  TemporaryFolder folder_;
  json names_;
  const MemoryTensors base_{{{"body.fc.weight", at::zeros({2, 3})},
                             {"body.output.weight", at::zeros({2})},
                             {"body.count", at::full({1}, 7, at::kLong)}}};
};

TEST_F(HfFolderTest, HasTheCheckpointsNamesShapesAndDtypes) {
  const at::Tensor weight = at::arange(6, at::kFloat).view({2, 3}) / 3;
  const MemoryTensors merged({{"body.fc.weight", weight}, {"body.output.weight", at::tensor({1.5f, 2.5f})}});
  const HfFolder hf = open();
  hf.check(base_.infos());
  hf.write(merged, base_);
  const SafetensorsFile file(folder_ / "out/model.safetensors");
  EXPECT_EQ(file.infos().size(), 4U);
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_TRUE(at::equal(file.get("fc.w"), weight.t().to(at::kBFloat16)));
  EXPECT_TRUE(at::equal(file.get("words"), at::tensor({1.5f, 2.5f}))) << "a tied tensor goes by any of its names";
  EXPECT_TRUE(at::equal(file.get("count"), at::full({1}, 7, at::kLong))) << "what was not merged is the base's";
  EXPECT_TRUE(at::equal(file.get("pooler"), at::ones({2})));
  EXPECT_EQ(read_file(folder_ / "out/pool/config.json"), "{\"pool\": 1}");
}

TEST_F(HfFolderTest, LeavesNothingBehindWhereItFails) {
  const HfFolder hf = open();
  fs::remove(folder_ / "base.hf/config.json");
  EXPECT_THROW(hf.write(base_, base_), InputError);
  for (const auto& entry : fs::directory_iterator(folder_.path()))
    EXPECT_TRUE(entry.path().filename() == "base.hf" || entry.path().filename() == "base.names.json") << entry.path();
}

TEST_F(HfFolderTest, RefusesAPlaceThatNothingCanBeRenamedTo) {
  fs::create_symlink(folder_ / "nowhere", folder_ / "out");
  EXPECT_THAT(input_error_of([&] { open(); }), HasSubstr("a link to nothing"));
}

TEST_F(HfFolderTest, RefusesAPlaceThatIsInUse) {
  write_file(folder_ / "out/mine", "mine");
  EXPECT_THAT(input_error_of([&] { open(); }), HasSubstr("is there already"));
  fs::remove(folder_ / "out/mine");
  open().write(base_, base_);
  EXPECT_TRUE(fs::exists(folder_ / "out/model.safetensors"));
}

TEST_F(HfFolderTest, RefusesABaseWithoutNames) {
  fs::remove(folder_ / "base.names.json");
  EXPECT_THAT(input_error_of([&] { open(); }),
              AllOf(HasSubstr("base.names.json"), HasSubstr("amalgam_export encoder")));
}

TEST_F(HfFolderTest, RefusesNamesThatAreNotAnExports) {
  EXPECT_THAT(refusal([&] { names_["version"] = 2; }), HasSubstr("version 2"));
  names_["version"] = 1;
  EXPECT_THAT(refusal([&] { names_["kind"] = "module"; }), HasSubstr("plain module"));
  names_["kind"] = "encoder";
  EXPECT_THAT(refusal([&] { names_["files"].push_back("../secret"); }), HasSubstr("outside"));
  names_["files"].erase(2);
  EXPECT_THAT(refusal([&] { names_["files"].push_back("vocab.txt"); }), HasSubstr("lacks vocab.txt"));
  names_["files"].erase(2);
  EXPECT_THAT(refusal([&] { names_["tensors"]["body.count"]["dtype"] = "complex64"; }), HasSubstr("complex64"));
  EXPECT_THAT(refusal([&] { names_.erase("tensors"); }), HasSubstr("not the names of an export"));
}

TEST_F(HfFolderTest, RefusesABaseThatIsNotTheNames) {
  const HfFolder hf = open();
  auto infos = base_.infos();
  infos.at("body.fc.weight").shape = {3, 2};
  EXPECT_THAT(input_error_of([&] { hf.check(infos); }), HasSubstr("body.fc.weight"));
  infos.erase("body.fc.weight");
  EXPECT_THAT(input_error_of([&] { hf.check(infos); }), HasSubstr("must not be private"));
}

TEST_F(HfFolderTest, RefusesVectorsThatItWouldLeaveOut) {
  auto infos = base_.infos();
  infos["body.key.ia3_l"] = {at::kFloat, {3}};
  EXPECT_THAT(input_error_of([&] { open().check(infos); }), AllOf(HasSubstr("body.key.ia3_l"), HasSubstr("hf")));
}

}  // namespace
}  // namespace amalgam
