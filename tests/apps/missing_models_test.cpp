#include "apps/missing_models.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/atomic_file.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

/// A trained base, a trained expert `left`, a given one `right`, and two rows.
class MissingModels : public testing::Test {
 protected:
  MissingModels() {
    write_file(folder_ / "r.yaml",
               "name: small\nbase: {train: {architecture: mlp, data: {format: tensors, root: data}}}\ntasks:\n"
               "  - {name: left, data: {format: tensors, root: data}, expert: {train: {}}}\n"
               "  - {name: right, data: {format: tensors, root: data}, expert: {model: right.pt}}\n"
               "merge: [average, ties]\n");
    recipe_ = read_recipe(folder_ / "r.yaml", {});
  }

  /// By their paths within the run.
  std::vector<std::string> missing(const std::string& row) const {
    std::vector<std::string> names;
    for (const auto& file : missing_models(recipe_, RunFolder(folder_.path()), row))
      names.push_back(file.lexically_relative(folder_.path()).string());
    return names;
  }

  TemporaryFolder folder_;
  Recipe recipe_;
};

TEST_F(MissingModels, AreAllThatIsNotGivenInAnEmptyRun) {
  EXPECT_THAT(missing("ties"),
              UnorderedElementsAre("base.pt", "tensors/base.safetensors", "experts/left.pt", "tensors/left.safetensors",
                                   "tensors/right.safetensors", "merged/ties.pt", "merged/ties.safetensors"));
  EXPECT_EQ(missing("").size(), 9U);
}

TEST_F(MissingModels, AreNoneOfThoseThatAreThere) {
  for (const char* file : {"base.pt", "tensors/base.safetensors", "experts/left.pt", "tensors/left.safetensors",
                           "tensors/right.safetensors", "merged/ties.pt"})
    write_file(folder_ / file, "");
  EXPECT_THAT(missing("ties"), UnorderedElementsAre("merged/ties.safetensors"));
  write_file(folder_ / "merged/ties.safetensors.index.json", "{}");  // in shards
  EXPECT_THAT(missing("ties"), IsEmpty());
}

}  // namespace
}  // namespace amalgam
