#include "models/original_names.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/script.h>

#include "core/atomic_file.h"
#include "expect_error.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

using testing::HasSubstr;

constexpr const char* kRecord = R"({"source": "minilm", "tensors": {
  "body.layer.0.query.weight": {"name": "layer.0.query.weight"},
  "body.layer.1.query.weight": {"name": "layer.1.query.weight"},
  "body.mix.weight": {"name": "mix.weight", "transposed": true}}})";

const std::vector<std::string> kNames = {"body.layer.0.query.weight", "body.layer.1.query.weight", "body.mix.weight",
                                         "heads.red.weight"};

OriginalNames read(const TemporaryFolder& folder) {
  write_file(folder / "base.names.json", kRecord);
  return OriginalNames::of_model(folder / "base.pt");
}

TEST(OriginalNames, AreReadBesideTheModel) {
  const TemporaryFolder folder;
  const OriginalNames names = read(folder);
  EXPECT_EQ(names.source(), "minilm");
  EXPECT_EQ(names.original("body.layer.0.query.weight"), "layer.0.query.weight");
  EXPECT_EQ(names.original("heads.red.weight"), "heads.red.weight");
  EXPECT_TRUE(names.is_transposed("body.mix.weight"));
  EXPECT_FALSE(names.is_transposed("body.layer.0.query.weight"));
}

TEST(OriginalNames, AreReadInTheModelsFile) {
  const TemporaryFolder folder;
  torch::jit::Module module("Empty");
  module.save((folder / "base.pt").string(), {{"names.json", kRecord}});
  EXPECT_EQ(OriginalNames::of_model(folder / "base.pt").original("body.mix.weight"), "mix.weight");
}

TEST(OriginalNames, AreTheModelsOwnWhereNothingIsKnown) {
  const TemporaryFolder folder;
  write_file(folder / "base.pt", "no archive");
  const OriginalNames names = OriginalNames::of_model(folder / "base.pt");
  EXPECT_EQ(names.original("body.mix.weight"), "body.mix.weight");
  EXPECT_EQ(names.find("body.mix.weight", kNames), "body.mix.weight");
}

TEST(OriginalNames, AreFoundUnderALongerOrAShorterPath) {
  const TemporaryFolder folder;
  const OriginalNames names = read(folder);
  EXPECT_EQ(names.find("layer.1.query.weight", kNames), "body.layer.1.query.weight");
  EXPECT_EQ(names.find("bert.layer.1.query.weight", kNames), "body.layer.1.query.weight");
  EXPECT_EQ(names.find("1.query.weight", kNames), "body.layer.1.query.weight");
  EXPECT_EQ(names.find("query.weight", kNames), std::nullopt);  // of two layers
  EXPECT_EQ(names.find("otherlayer.1.query.weight", kNames), std::nullopt);
}

TEST(OriginalNames, RefuseADamagedRecord) {
  const TemporaryFolder folder;
  for (const char* text : {"{", R"({"tensors": {"a": {}}})", R"({"tensors": 3})"}) {
    write_file(folder / "base.names.json", text);
    EXPECT_THAT(input_error_of([&] { OriginalNames::of_model(folder / "base.pt"); }), HasSubstr("names.json")) << text;
  }
}

}  // namespace
}  // namespace amalgam
