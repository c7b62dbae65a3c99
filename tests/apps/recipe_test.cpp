#include "apps/recipe.h"

#include "core/atomic_file.h"
#include "expect_error.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

/// A recipe of two tasks; `top` and `task` are further lines of the top and of the first task.
Recipe read(const std::string& top, const std::string& task) {
  const TemporaryFolder folder;
  write_file(folder / "r.yaml", "name: small\nbase: {model: base.pt}\n" + top +
                                    "data: {here: {format: tensors, root: data}}\n"
                                    "tasks:\n"
                                    "  - name: left\n    data: here\n    expert: {model: left.pt}\n" +
                                    task +
                                    "  - {name: right, data: here, expert: {model: right.pt}}\nmerge: [average]\n");
  return read_recipe(folder / "r.yaml", {});
}

TEST(Recipe, TakesALossAsAWordOrWithItsOptions) {
  EXPECT_EQ(read("", "").tasks[0].loss, LossSpec("cross_entropy"));
  EXPECT_EQ(read("", "    loss: binary_cross_entropy\n").tasks[0].loss, LossSpec("binary_cross_entropy"));
  const Recipe recipe = read("", "    loss: {label_smoothing: 0.1, targets: mean}\n");
  EXPECT_EQ(recipe.tasks[0].loss.name, "cross_entropy");
  EXPECT_EQ(recipe.tasks[0].loss.label_smoothing, 0.1);
  EXPECT_EQ(recipe.tasks[0].loss.targets, "mean");
  EXPECT_THAT(resolved_yaml(recipe), AllOf(HasSubstr("label_smoothing: 0.1"), HasSubstr("targets: mean")));
}

TEST(Recipe, RefusesALossOrMetricThatIsNotKnownOrDoesNotFit) {
  const auto refusal = [](const std::string& task) { return input_error_of([&] { read("", task); }); };
  EXPECT_THAT(refusal("    loss: cross_entropi\n"), AllOf(HasSubstr("loss.name"), HasSubstr("'cross_entropy'")));
  EXPECT_THAT(refusal("    loss: {label_smooting: 0.1}\n"), HasSubstr("'label_smoothing'"));
  EXPECT_THAT(refusal("    loss: {name: mean_squared_error, label_smoothing: 0.1}\n    metric: r_squared\n"),
              HasSubstr("tasks.left.loss.label_smoothing"));
  EXPECT_THAT(refusal("    loss: mean_squared_error\n"),
              AllOf(HasSubstr("tasks.left.metric: 'accuracy'"), HasSubstr("use r_squared")));
  EXPECT_THAT(refusal("    metric: acuracy\n"), AllOf(HasSubstr("tasks.left.metric"), HasSubstr("'accuracy'")));
}

TEST(Recipe, GivesEveryTaskTheOutputOfTheTopUnlessItHasItsOwn) {
  const Recipe recipe = read("output: logits\n", "    output: 0\n");
  EXPECT_EQ(recipe.tasks[0].output, "0");
  EXPECT_EQ(recipe.tasks[1].output, "logits");
  EXPECT_EQ(read("", "").tasks[1].output, "");
}

TEST(Recipe, RefusesASearchOverTasksOfWhichSomeAreBetterLower) {
  const auto with_search = [](const std::string& task) {
    const TemporaryFolder folder;
    write_file(folder / "r.yaml",
               "name: small\nbase: {model: base.pt}\ndata: {here: {format: tensors, root: data}}\ntasks:\n"
               "  - {name: left, data: here, expert: {model: left.pt}}\n  - {name: right, data: here, expert: {model: "
               "right.pt}" +
                   task + "}\nmerge: [average, {method: task_arithmetic, search: {scale: [0.3, 0.5]}}]\n");
    return read_recipe(folder / "r.yaml", {});
  };
  EXPECT_THAT(input_error_of([&] { with_search(", metric: perplexity"); }),
              AllOf(HasSubstr("merge.task_arithmetic.search"), HasSubstr("accuracy and perplexity")));
  EXPECT_EQ(with_search(", metric: matthews").merge[1].search.size(), 1U);
}

TEST(Recipe, RefusesHeadsWhereNothingIsPrivate) {
  const std::string staged = "    expert: {train: {heads: {steps: 10}}}\n";
  const auto read_staged = [&](const std::string& top) {
    const TemporaryFolder folder;
    write_file(folder / "r.yaml",
               "name: small\nbase: {model: base.pt}\n" + top +
                   "merge: [average]\ntasks:\n  - name: left\n    data: {format: tensors, root: data}\n" + staged);
    return read_recipe(folder / "r.yaml", {});
  };
  EXPECT_THAT(input_error_of([&] { read_staged(""); }),
              AllOf(HasSubstr("tasks.left.expert.train.heads"), HasSubstr("private")));
  EXPECT_EQ(read_staged("private: [\"head.*\"]\n").tasks[0].expert.train.finetune.heads.steps, 10);
}

TEST(Recipe, RefusesWhatAnExpertHasOfTheBaseOrOfItsTask) {
  for (const std::string key : {"architecture: mlp", "options: {hidden: [3]}", "data: here"}) {
    const TemporaryFolder folder;
    write_file(folder / "r.yaml",
               "name: small\nbase: {model: base.pt}\ndata: {here: {format: tensors, root: data}}\n"
               "tasks: [{name: left, data: here, expert: {train: {" +
                   key + "}}}]\n");
    EXPECT_THAT(input_error_of([&] { read_recipe(folder / "r.yaml", {}); }),
                HasSubstr("tasks.left.expert.train." + key.substr(0, key.find(':'))));
  }
}

TEST(Recipe, IsReadAgainAsItWasResolved) {
  const TemporaryFolder folder;
  const std::string resolved = resolved_yaml(
      read("output: logits\nprivate: [\"head.*\"]\n", "    weight: 0.3\n    loss: {label_smoothing: 0.1}\n"));
  write_file(folder / "again.yaml", resolved);
  const Recipe again = read_recipe(folder / "again.yaml", {});
  EXPECT_EQ(again.tasks.size(), 2U);
  EXPECT_EQ(resolved_yaml(again), resolved);
}

TEST(Recipe, RefusesSplitsThatAreNoneOrTwice) {
  const auto refusal = [](const std::string& splits) {
    return input_error_of([&] { read("evaluate: {splits: " + splits + "}\n", ""); });
  };
  EXPECT_THAT(refusal("[]"), HasSubstr("evaluate.splits: nothing would be scored"));
  EXPECT_THAT(refusal("[val, test, val]"), HasSubstr("evaluate.splits: 'val' stands there twice"));
}

TEST(Recipe, RefusesHeadsOfTheBase) {
  const TemporaryFolder folder;
  write_file(folder / "r.yaml",
             "name: small\nbase: {train: {architecture: mlp, data: {format: tensors, root: data}, heads: {steps: 5}}}\n"
             "tasks: [{name: left, data: {format: tensors, root: data}}]\n");
  EXPECT_THAT(input_error_of([&] { read_recipe(folder / "r.yaml", {}); }), HasSubstr("base.train.heads"));
}

}  // namespace
}  // namespace amalgam
