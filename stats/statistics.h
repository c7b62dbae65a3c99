#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/layer_table.h"
#include "core/sharded_safetensors.h"
#include "core/tensor_source.h"

namespace amalgam {

/// What can be collected. A recipe's "kronecker" stands for kInputGram and kOutputGram together (K-FAC `expand`: each
/// row is an observation), "kronecker_reduced" for the two reduced ones (K-FAC `reduce`: an example is one observation,
/// of its mean input and its summed gradient).
enum class StatisticKind {
  kInputGram,
  kOutputGram,
  kSquaredGradient,
  kMoments,
  kReducedInputGram,
  kReducedOutputGram,
  kGradientGram
};

/// "input_gram", "output_gram", "squared_gradient", "moments", "reduced_input_gram", "reduced_output_gram",
/// "gradient_gram".
const char* name_of(StatisticKind kind);
/// The kinds that a recipe's word stands for.
/// @throws InputError naming the nearest word
std::set<StatisticKind> kinds_from_word(const std::string& word);

/// The examples [begin, end).
struct ExampleRange {
  int64_t begin = 0, end = 0;

  bool operator==(const ExampleRange&) const = default;
};

/// How the rows of one example enter a Kronecker factor.
/// @source Eschenhagen et al. 2023, "Kronecker-factored approximate curvature for modern neural network architectures"
enum class KroneckerForm { kExpand, kReduce };

/// Where sums come from and whose they are: the `__metadata__` of a statistics file.
struct StatisticsHeader {
  static constexpr int kVersion = 2;
  static constexpr int64_t kDefaultVectorLimit = 4096, kMostVectorLimit = 1 << 16;

  std::string task;
  std::string loss;          ///< as the recipe has it, one line
  std::string label_mode;    ///< "true", "sampled", "exact"
  double temperature = 1.0;  ///< gradients are of the loss of output / temperature; in a file only where it is not 1
  /// Which examples, along the order of the split that `seed` and `task` draw: sorted, disjoint, not adjacent.
  std::vector<ExampleRange> ranges;
  uint64_t seed = 0;
  std::string dtype;          ///< of the sums: "float64" or "float32"
  std::string products;       ///< precision of what was added up: "model" (the model's own) or "float64"
  std::string expert_digest;  ///< SHA-256 of the expert's parameters and buffers (core/digest.h)
  std::string data_digest;    ///< SHA-256 of the data
  std::set<StatisticKind> kinds;
  LayerTable layers;
  std::map<std::string, std::vector<int64_t>> parameter_shapes;  ///< as stored, of the parameters of `layers`
  std::vector<std::string> unobserved;  ///< "<parameter>: <why>" for each parameter with no statistic
  /// Gram matrices that are not whole: the name of the sum -> the width of the blocks on its diagonal that are there; 1
  /// is the diagonal alone. Note [Statistics file].
  std::map<std::string, int64_t> blocks;
  /// Vectors of more elements have no gradient Gram matrix; of kGradientGram only.
  int64_t vector_limit = kDefaultVectorLimit;
  std::string sums_digest;  ///< SHA-256 over the sums (core/digest.h); `save` fills it in

  /// How many examples the ranges hold.
  int64_t examples() const;
};

/// Additive summaries of one expert on its task. Files keep sums; these functions divide.
///
/// Tensors of the file, all sums over the observed examples (Note [Statistics file] in statistics.cpp):
///
///   <layer>/input_gram            [in, in], [groups, in, in]        Σ a aᵀ over rows
///   <layer>/input_sum             [in], [groups, in]                Σ a over rows
///   <layer>/output_gram           [u, u], [groups, u, u]            Σ g gᵀ over rows; u = out/groups
///   <layer>/rows                  int64 []                          rows that the mask keeps
///   <layer>/reduced_input_gram, <layer>/reduced_input_sum           of ā_n, the mean of an example's rows
///   <layer>/reduced_output_gram                                     of Σ_t g_nt, the sum over an example's rows
///   <layer>/reduced_rows          int64 []                          examples with a row that counts
///   <layer>/output_sum, <layer>/output_square_sum   [out]           of the layer's output over rows
///   <parameter>/squared_gradient  the parameter's shape             Σ_n (∂ loss_n / ∂ parameter)²
///   <parameter>/gradient_gram     [n, n]                            Σ_n ∇_n ∇_nᵀ, ∇_n = ∂ loss_n / ∂ parameter, of a
///                                                                   parameter that is one vector of n elements
///
/// Layers that are fed the same tensor have their input sums at the first of them.
class Statistics {
 public:
  /// @param sums the tensors above
  Statistics(StatisticsHeader header, std::shared_ptr<const TensorSource> sums);

  /// Maps a file and checks version, names and shapes against its own layer table.
  /// @throws InputError naming the file and what is wrong
  /// @param path  one file, or an index of shards (core/sharded_safetensors.h)
  static Statistics load(const std::filesystem::path& path);
  /// Writes one sum at a time, and their digest into the header.
  /// @param path             NAME.safetensors
  /// @param max_shard_bytes  where the sums take more, they are written to shards with an index
  /// @return the file to load: `path`, or the index
  std::filesystem::path save(const std::filesystem::path& path, uint64_t max_shard_bytes = kMaxShardBytes) const;
  static constexpr uint64_t kMaxShardBytes = uint64_t{5} << 30;

  const StatisticsHeader& header() const { return header_; }
  const TensorSource& sums() const { return *sums_; }

  bool has_input_gram(const Layer& layer, KroneckerForm form = KroneckerForm::kExpand) const;
  bool has_output_gram(const Layer& layer, KroneckerForm form = KroneckerForm::kExpand) const;
  bool has_squared_gradient(const std::string& parameter) const;
  bool has_gradient_gram(const std::string& parameter) const;

  /// The names of the sums that a layer's matrices of these kinds are made of, the squared gradients of its parameters
  /// among them; those that are not there are left out. For `TensorSource::prefetch`.
  std::vector<std::string> sum_names(const Layer& layer, const std::set<StatisticKind>& kinds) const;

  /// Rows counted at the layer; of the reduced form, examples that have one.
  int64_t rows(const Layer& layer, KroneckerForm form = KroneckerForm::kExpand) const;

  /// A = (1/rows) Σ a aᵀ, float64 [groups, n, n] on the CPU. For a layer with a bias the input ends with a component 1,
  /// so n = in + 1: A = (1/rows) [[Σ a aᵀ, Σ a], [Σ aᵀ, rows]]; else n = in.
  /// Of a matrix of which only blocks were collected the rest is zero, and so is what would join inputs and bias: the
  /// matrix stays positive semi-definite.
  at::Tensor input_gram(const Layer& layer, KroneckerForm form = KroneckerForm::kExpand) const;
  /// B = (1/examples) Σ g gᵀ, float64 [groups, out/groups, out/groups], g the gradient of the summed loss by the
  /// output.
  at::Tensor output_gram(const Layer& layer, KroneckerForm form = KroneckerForm::kExpand) const;
  /// F = (1/examples) Σ_n (∂ loss_n / ∂ parameter)², float64, the parameter's shape.
  at::Tensor squared_gradient(const std::string& parameter) const;
  /// F = (1/examples) Σ_n ∇_n ∇_nᵀ, float64 [n, n]: the whole Fisher information of a parameter that is one vector.
  at::Tensor gradient_gram(const std::string& parameter) const;

 private:
  std::string input_sum_name(const Layer& layer, const std::string& sum, KroneckerForm form) const;
  // [groups, width, width], with zeros where blocks were not collected
  at::Tensor whole_gram(const std::string& name, int64_t groups, int64_t width) const;

  StatisticsHeader header_;
  std::shared_ptr<const TensorSource> sums_;
};

/// Whether a file calls itself one of statistics.
bool is_statistics_file(const TensorFile& file);

/// Sorted, with adjacent ranges joined.
/// @throws InputError if two overlap
std::vector<ExampleRange> joined_ranges(std::vector<ExampleRange> ranges);
/// "[0, 500), [700, 1000)"
std::string describe(const std::vector<ExampleRange>& ranges);

}  // namespace amalgam
