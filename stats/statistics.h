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
#include "core/safetensors.h"
#include "core/tensor_source.h"

namespace amalgam {

/// What can be collected. A recipe's "kronecker" stands for kInputGram and kOutputGram together.
enum class StatisticKind { kInputGram, kOutputGram, kSquaredGradient, kMoments };

/// "input_gram", "output_gram", "squared_gradient", "moments".
const char* name_of(StatisticKind kind);
/// The kinds that a recipe's word stands for.
/// @throws InputError naming the nearest word
std::set<StatisticKind> kinds_from_word(const std::string& word);

/// Where sums come from and whose they are: the `__metadata__` of a statistics file.
struct StatisticsHeader {
  static constexpr int kVersion = 1;

  std::string task;
  std::string label_mode;     ///< "true", "sampled", "exact"
  int64_t first_example = 0;  ///< the range of examples of the split, [first_example, first_example + examples)
  int64_t examples = 0;
  uint64_t seed = 0;
  std::string dtype;          ///< of the sums: "float64" or "float32"
  std::string expert_digest;  ///< SHA-256 of the expert's parameters and buffers (core/digest.h)
  std::string data_digest;    ///< SHA-256 of the data
  std::set<StatisticKind> kinds;
  LayerTable layers;
  std::map<std::string, std::vector<int64_t>> parameter_shapes;  ///< as stored, of the parameters of `layers`
  std::vector<std::string> unobserved;  ///< "<parameter>: <why>" for each parameter with no statistic
};

/// Additive summaries of one expert on its task. Files keep sums; these functions divide.
///
/// Tensors of the file, all sums over the observed examples (Note [Statistics file] in statistics.cpp):
///   <layer>/input_gram   [in, in] or [groups, in, in]    Σ a aᵀ over rows; stored at the layer that is first fed the
///   tensor <layer>/input_sum    [in] or [groups, in]            Σ a over rows (with input_gram) <layer>/output_gram
///   [out, out] or [groups, out/groups, out/groups]   Σ g gᵀ over rows <layer>/rows         int64 [] positions that the
///   mask keeps <layer>/output_sum, <layer>/output_square_sum [out]  moments of the layer's output over rows
///   <parameter>/squared_gradient  the parameter's shape  Σ_n (∂ loss_n / ∂ parameter)²
class Statistics {
 public:
  /// @param sums the tensors above
  Statistics(StatisticsHeader header, std::shared_ptr<const TensorSource> sums);

  /// Maps a file and checks version, names and shapes against its own layer table.
  /// @throws InputError naming the file and what is wrong
  static Statistics load(const std::filesystem::path& path);
  void save(const std::filesystem::path& path) const;

  const StatisticsHeader& header() const { return header_; }
  const TensorSource& sums() const { return *sums_; }

  bool has_input_gram(const Layer& layer) const;
  bool has_output_gram(const Layer& layer) const;
  bool has_squared_gradient(const std::string& parameter) const;

  /// Positions counted at the layer.
  int64_t rows(const Layer& layer) const;

  /// A = (1/rows) Σ a aᵀ, float64 [groups, n, n] on the CPU. For a layer with a bias the input ends with a component 1,
  /// so n = in + 1: A = (1/rows) [[Σ a aᵀ, Σ a], [Σ aᵀ, rows]]; else n = in.
  at::Tensor input_gram(const Layer& layer) const;
  /// B = (1/examples) Σ g gᵀ, float64 [groups, out/groups, out/groups], g the gradient of the summed loss by the
  /// output.
  at::Tensor output_gram(const Layer& layer) const;
  /// F = (1/examples) Σ_n (∂ loss_n / ∂ parameter)², float64, the parameter's shape.
  at::Tensor squared_gradient(const std::string& parameter) const;

 private:
  StatisticsHeader header_;
  std::shared_ptr<const TensorSource> sums_;
};

/// Whether a safetensors file calls itself one of statistics.
bool is_statistics_file(const SafetensorsFile& file);

}  // namespace amalgam
