#include "apps/model_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/atomic_file.h"
#include "core/sharded_safetensors.h"
#include "expect_error.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

const NamedTensors kTensors = {{"a", at::ones({4})}, {"b", at::zeros({3, 5})}};

TEST(ModelFolder, OpensOneFileShardsOrAPath) {
  const TemporaryFolder folder;
  write_safetensors(folder / "one/model.safetensors", kTensors);
  write_safetensors_sharded(folder / "many/model.safetensors", MemoryTensors(kTensors), {}, 20);
  write_safetensors(folder / "named/other.safetensors", kTensors);
  for (const char* path : {"one", "many", "named/other.safetensors", "many/model.safetensors.index.json"})
    EXPECT_EQ(ModelFolder(folder / path).tensors().infos(), MemoryTensors(kTensors).infos()) << path;
  EXPECT_EQ(ModelFolder(folder / "one").weight_files().size(), 1U);
  EXPECT_EQ(ModelFolder(folder / "many").weight_files().size(), 3U);
}

TEST(ModelFolder, KnowsWhatLoadsWithTheModel) {
  const TemporaryFolder folder;
  write_safetensors_sharded(folder / "m/model.safetensors", MemoryTensors(kTensors), {}, 20);
  for (const char* file :
       {"config.json", "tokenizer.json", "1_Pooling/config.json", "pytorch_model.bin", "amalgam.json",
        "pytorch_model.bin.index.json", ".git/config", ".gitattributes", "original/model.00.pth"})
    write_file(folder / "m" / file, "x");
  write_file(folder / "blob", "x");
  fs::create_symlink("../blob", folder / "m/vocab.txt");  // as the cache of Hugging Face lies
  EXPECT_THAT(ModelFolder(folder / "m").companions(),
              testing::ElementsAre("1_Pooling/config.json", "config.json", "tokenizer.json", "vocab.txt"));
  write_safetensors(folder / "alone.safetensors", kTensors);
  EXPECT_TRUE(ModelFolder(folder / "alone.safetensors").companions().empty());
}

TEST(ModelFolder, SaysWhatIsThereInPlaceOfTensors) {
  const TemporaryFolder folder;
  EXPECT_THAT(input_error_of([&] { ModelFolder(folder / "none"); }), HasSubstr("no such folder"));
  write_file(folder / "empty/config.json", "{}");
  EXPECT_THAT(input_error_of([&] { ModelFolder(folder / "empty"); }), HasSubstr("no model.safetensors"));
  write_file(folder / "old/pytorch_model.bin", "x");
  EXPECT_THAT(input_error_of([&] { ModelFolder(folder / "old"); }),
              AllOf(HasSubstr("pytorch_model.bin"), HasSubstr("save_pretrained")));
  write_file(folder / "bad/model.safetensors", "no header at all");
  EXPECT_THAT(input_error_of([&] { ModelFolder(folder / "bad"); }), HasSubstr("bad/model.safetensors"));
}

}  // namespace
}  // namespace amalgam
