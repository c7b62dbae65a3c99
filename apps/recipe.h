#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "apps/protocol.h"
#include "apps/recipe_rows.h"
#include "core/options.h"
#include "datasets/data_spec.h"
#include "models/finetune.h"
#include "models/loss.h"
#include "stats/collector.h"

namespace amalgam {

/// `train` of a base or of an expert: how to make the model where no file is given.
struct TrainSpec {
  std::string architecture;         ///< of the base; experts have the base's
  YAML::Node architecture_options;  ///< read by the architecture
  YAML::Node data;                  ///< of the base: a data section, or the name of one under `data`; or a list of them
  YAML::Node augment;               ///< random transforms of the training examples
  FinetuneOptions finetune;

  void declare(OptionSet& set);
};

/// A model: a file that exists, or how to make it.
struct ModelSpec {
  std::string model;
  TrainSpec train;

  void declare(OptionSet& set);
};

/// An expert: a file, how to make it, or an adapter of the base.
struct ExpertSpec : ModelSpec {
  std::string adapter;  ///< a folder of PEFT

  bool is_trained() const { return model.empty() && adapter.empty(); }
  bool trains_adapter() const { return is_trained() && train.finetune.adapter.is_on(); }
  void declare(OptionSet& set);
};

/// The base, and what is known of it.
struct BaseSpec : ModelSpec {
  std::string statistics;  ///< a file of statistics of the base on data of its own

  void declare(OptionSet& set);
};

struct TaskSpec {
  std::string name;
  YAML::Node data_node;  ///< a data section, or the name of one under `data`
  DataSpec data;         ///< what `data_node` says
  LossSpec loss;
  std::string metric = "accuracy";
  std::string output;  ///< which tensor of what the model returns; empty: the recipe's
  ExpertSpec expert;
  std::string statistics;  ///< a file of statistics to be used in place of collecting
  double weight = 1.0;

  void declare(OptionSet& set);
};

struct StatisticsSpec {
  std::vector<std::string> kinds;  ///< empty: what the methods need
  int64_t examples = 1000;
  std::string labels = "true";
  double temperature = 1.0;
  std::string split = "train";
  int64_t first = 0;
  int64_t batch = 32;
  int64_t checkpoint_every = 2000;
  int64_t memory = 0;
  bool strict = false;
  CollectorOptions collector;

  void declare(OptionSet& set);
};

struct EvaluateSpec {
  std::vector<std::string> splits = {"val", "test"};
  int64_t batch = 256;
  int64_t examples = 0;  ///< of each split, drawn by the seed; 0: all
  bool predictions = false;

  void declare(OptionSet& set);
};

struct ReportSpec {
  std::string title;
  std::string reference;  ///< the row that others are compared with; empty: regmean, or else average

  void declare(OptionSet& set);
};

/// The whole recipe, with every default filled in.
struct Recipe {
  std::string name;
  int64_t seed = 0;
  std::string device = "auto";
  std::string output;  ///< of every task that says nothing else
  YAML::Node data;     ///< named data sections
  BaseSpec base;
  std::vector<DataSpec> base_data;  ///< what the base is trained on; several: a classifier of their union
  std::vector<std::string> private_patterns;
  std::vector<TaskSpec> tasks;
  StatisticsSpec statistics;
  YAML::Node merge_node;
  std::vector<MergeRow> merge;
  YAML::Node donors_node;
  std::vector<DonorRow> donors;
  ProtocolSpec protocol;
  int64_t adapter_rank = 0;  ///< of merged adapters; 0: the largest of the experts'
  EvaluateSpec evaluate;
  ReportSpec report;

  void declare(OptionSet& set);
};

/// The rows of `merge` and of `donors`, each with its place: "merge.mats", "donors.regmean".
std::vector<std::pair<std::string, const MergeRow*>> all_rows(const Recipe& recipe);

/// Reads a recipe.
/// @param overrides "path=value" each: dots separate keys; a list's item goes by its number, its name or its method
/// @throws InputError naming file, key and remedy
Recipe read_recipe(const std::filesystem::path& path, const std::vector<std::string>& overrides);

/// The recipe as YAML with every default written out.
std::string resolved_yaml(const Recipe& recipe);

}  // namespace amalgam
