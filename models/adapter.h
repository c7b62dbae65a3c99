#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/layer_table.h"
#include "core/options.h"
#include "core/tensor_source.h"
#include "models/runner.h"

namespace amalgam {

/// What is trained of an expert in the place of its weights. A low-rank adapter (LoRA): W = W0 + s B A, with
/// A [rank, in] and B [out, rank] trained, W0 as it was, and s = alpha / rank, or alpha / √rank with `rslora`.
/// @source Hu et al. 2022 (LoRA); Kalajdzievski 2023 (rsLoRA)
struct AdapterSpec {
  std::string kind = "none";  ///< none | lora
  int64_t rank = 8;
  double alpha = 16;
  bool rslora = false;
  std::vector<std::string> targets;  ///< name patterns of weights

  bool is_on() const { return kind != "none"; }
  double scale() const;
  void declare(OptionSet& set);
};

/// The weights that the patterns name, in the order of `names`.
/// @param infos  of all of the model's parameters
/// @param where  path of the section, for messages
/// @throws InputError for a pattern that names nothing, a target that is no floating matrix, or a rank above its sides
std::vector<std::string> adapter_targets(const AdapterSpec& spec, const std::vector<std::string>& names,
                                         const std::map<std::string, TensorInfo>& infos, const std::string& where);

/// A target must be the weight of linear layers, stored [out, in].
/// @param layers      as a scan of the model has them
/// @param unobserved  "name: why" of parameters that the scan left out
/// @throws InputError naming the first one that is not
void check_target_layers(const std::vector<std::string>& targets, const LayerTable& layers,
                         const std::vector<std::string>& unobserved, const std::string& where);

/// Trains factors through the weights of a model as it is: its graph never sees them. Before a forward pass the weights
/// are W0 + s B A (`fold`); after a backward pass the chain rule gives what the factors' own graph would,
/// ∂B = s ∂W Aᵀ and ∂A = s Bᵀ ∂W (`take_gradients`).
///
/// A starts uniform in ±1/√in (Kaiming's with a = √5, as PEFT has it), B at zero. What is drawn depends on the seed and
/// the weight's name alone: experts of one seed start from the same A, as PEFT's do. Factors are float32 (float64 of a
/// float64 weight).
class LowRankAdapter {
 public:
  /// @param targets  of `adapter_targets`; their values now are W0
  LowRankAdapter(const ModelRunner& model, const AdapterSpec& spec, const std::vector<std::string>& targets,
                 uint64_t seed);

  const std::vector<std::string>& targets() const { return targets_; }
  /// The model's live weights of the targets.
  const std::vector<at::Tensor>& weights() const { return weights_; }
  /// What an optimiser trains: A and B of each target in turn.
  std::vector<at::Tensor> factors() const;

  void fold() const;
  /// Sets the factors' gradients from the weights', which are let go.
  void take_gradients();

  /// Copies by name (core/low_rank.h): A and B as they are trained, without s.
  NamedTensors values() const;
  void set(const NamedTensors& values);

 private:
  double scale_;
  std::vector<std::string> targets_;
  std::vector<at::Tensor> weights_, bases_;  // [out, in]
  std::vector<at::Tensor> down_, up_;        // A [rank, in], B [out, rank]
};

}  // namespace amalgam
