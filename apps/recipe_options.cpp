// What each section of a recipe holds: keys, ranges, help.
#include "apps/recipe.h"

namespace amalgam {

void TrainSpec::declare(OptionSet& set) {
  set.text("architecture", architecture, "of the base: vision_transformer, convolutional, mlp");
  set.node("options", architecture_options, "of the architecture");
  set.node("data", data,
           "of the base: a data section, the name of one under `data`, or a list of them: a classifier of their union");
  set.node("augment", augment, "random transforms of the training examples");
  finetune.declare(set);
}

void ModelSpec::declare(OptionSet& set) {
  set.text("model", model, "a TorchScript file");
  set.section("train", train, "how to make the model where no file is given");
}

void ExpertSpec::declare(OptionSet& set) {
  ModelSpec::declare(set);
  set.text("adapter", adapter, "a folder of PEFT (adapter_config.json, adapter_model.safetensors) for the base");
}

void BaseSpec::declare(OptionSet& set) {
  ModelSpec::declare(set);
  set.text("statistics", statistics, "a file of squared gradients of the base on data of its own (gradient_matching)");
}

void TaskSpec::declare(OptionSet& set) {
  set.text("name", name, "an identifier");
  set.node("data", data_node, "a data section, or the name of one under `data`");
  set.section_or_word("loss", loss, "name", "cross_entropy, binary_cross_entropy, mean_squared_error");
  set.text("metric", metric, "accuracy, f1, macro_f1, matthews, perplexity; of mean_squared_error r_squared, pearson");
  set.text("output", output, "which tensor of what the model returns: a key, an attribute, a position");
  set.section("expert", expert, "the model fine-tuned on this task");
  set.text("statistics", statistics, "a file of statistics to be used in place of collecting");
  set.real("weight", weight, {-OptionSet::kInfinity, OptionSet::kInfinity}, "of the expert in every method");
}

void StatisticsSpec::declare(OptionSet& set) {
  set.texts("kinds", kinds,
            "input_gram, kronecker, kronecker_reduced, squared_gradient, gradient_gram, moments; empty: what the "
            "methods need");
  set.integer("examples", examples, {1, 1e12}, "examples a task");
  set.choice("labels", labels, {"true", "sampled", "exact"}, "whose labels the gradients are of");
  set.real("temperature", temperature, {1e-3, 1e6},
           "gradients are of the loss of output / temperature; above 1, fitted examples count for more");
  set.choice("split", split, {"train", "val"}, "where the examples are from");
  set.integer("batch", batch, {1, 1e9}, "examples a pass");
  set.integer("first", first, {0, 1e12},
              "the number of the first example, along an order that the seed draws: parts that begin at different "
              "numbers can be added up (`amalgam stats add`)");
  set.integer("checkpoint_every", checkpoint_every, {0, 1e12},
              "progress is saved after so many examples; 0: only when the program is asked to stop");
  set.bytes("memory", memory, "that sums may take at a time (4GiB); more are collected in several passes; 0: no limit");
  set.flag("strict", strict, "a parameter that is merged and has no statistic is an error");
  collector.declare(set);
}

void EvaluateSpec::declare(OptionSet& set) {
  set.texts("splits", splits, "val, test, train");
  set.integer("batch", batch, {1, 1e9}, "examples a pass");
  set.integer("examples", examples, {0, 1e12},
              "examples of each split, drawn by the seed, the same for every row; 0: all");
  set.flag("predictions", predictions, "what each model says of each example is kept, too");
}

void ReportSpec::declare(OptionSet& set) {
  set.text("title", title, "the page's headline; default: the recipe's name");
  set.text("reference", reference,
           "the row that the others are compared with where there are predictions; default: one of regmean, or else of "
           "average");
}

void Recipe::declare(OptionSet& set) {
  set.text("name", name, "the run's folder is runs/<name>");
  set.integer("seed", seed, {0, 9e15}, "of every random draw");
  set.text("device", device, "auto | cpu | cuda | cuda:1");
  set.text("output", output, "of every task that says nothing else");
  set.node("data", data, "data sections by name");
  set.section("base", base, "the model that every expert was fine-tuned from");
  set.texts("private", private_patterns, "parameter name patterns that are never merged");
  set.sections("tasks", tasks, "one expert each");
  set.section("statistics", statistics, "what is collected");
  set.node("merge", merge_node, "the rows: a method each");
  set.node("donors", donors_node, "rows, with `weights`: each task's expert merged into each other task's");
  set.section("protocol", protocol, "rows merged of subsets of the experts");
  set.integer("adapter_rank", adapter_rank, {0, 1e6},
              "of the merged adapters, where every expert is one; 0: the largest of the experts'");
  set.section("evaluate", evaluate, "what is scored");
  set.section("report", report, "the page");
}

}  // namespace amalgam
