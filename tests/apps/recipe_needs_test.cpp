#include "apps/recipe_needs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/atomic_file.h"
#include "expect_error.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

using Given = std::vector<std::optional<std::set<StatisticKind>>>;

/// A recipe of the tasks `left` and `right`, the first with statistics of its own.
/// @param rest  `merge` and further sections
Recipe read(const std::string& rest) {
  const TemporaryFolder folder;
  write_file(folder / "r.yaml",
             "name: small\nbase: {model: base.pt}\ntasks:\n"
             "  - {name: left, data: {format: tensors, root: data}, expert: {model: left.pt}, statistics: "
             "l.safetensors}\n"
             "  - {name: right, data: {format: tensors, root: data}, expert: {model: right.pt}}\n" +
                 rest);
  return read_recipe(folder / "r.yaml", {});
}

const Given kGramOfLeft = {std::set{StatisticKind::kInputGram}, std::nullopt};

TEST(RecipeNeeds, AreMetByWhatIsCollectedOrGiven) {
  check_needed_kinds(read("merge: [regmean]\n"), "", kGramOfLeft);
  check_needed_kinds(read("merge: [regmean]\nstatistics: {kinds: [kronecker]}\n"), "", kGramOfLeft);
  check_needed_kinds(read("merge: [average, fisher]\nstatistics: {kinds: [input_gram]}\n"), "average", kGramOfLeft);
}

TEST(RecipeNeeds, AreRefusedWhereTheKindsLeaveThemOut) {
  const auto refusal = [](const std::string& rest) {
    return input_error_of([&] { check_needed_kinds(read(rest), "", {std::nullopt, std::nullopt}); });
  };
  EXPECT_THAT(refusal("merge: [regmean, mats]\nstatistics: {kinds: [input_gram]}\n"),
              AllOf(HasSubstr("merge.mats"), HasSubstr("'output_gram' of task 'left'"), HasSubstr("statistics.kinds")));
  EXPECT_THAT(refusal("donors: [fisher]\nstatistics: {kinds: [kronecker]}\n"),
              AllOf(HasSubstr("donors.fisher"), HasSubstr("'squared_gradient'")));
  EXPECT_THAT(refusal("merge: [{method: mats, search: {normalise: [trace, fisher]}}]\n"
                      "statistics: {kinds: [kronecker]}\n"),
              AllOf(HasSubstr("merge.mats"), HasSubstr("'squared_gradient'")));
}

TEST(RecipeNeeds, AreRefusedWhereAGivenFileLacksThem) {
  EXPECT_THAT(input_error_of([] { check_needed_kinds(read("merge: [fisher]\n"), "", kGramOfLeft); }),
              AllOf(HasSubstr("merge.fisher"), HasSubstr("'squared_gradient'"), HasSubstr("l.safetensors"),
                    HasSubstr("tasks.left.statistics")));
}

}  // namespace
}  // namespace amalgam
