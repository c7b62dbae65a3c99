#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace amalgam {

enum class LayerKind {
  kLinear,
  kConvolution,
  kEmbedding,
  kLayerNorm,
  kBatchNorm,
  kBias,
  kRmsNorm,
  kGroupNorm,
  kInstanceNorm,
  kScale
};

/// "linear", "convolution", "embedding", "layer_norm", "batch_norm", "bias", "rms_norm", "group_norm", "instance_norm",
/// "scale".
const char* name_of(LayerKind kind);

/// One parameterised operation of a model, as plain data: what the rooms agree on in place of TorchScript.
///
/// A packed query/key/value weight is three layers with three row slices; a weight stored [in, out] is one with
/// `transposed`; a tied weight goes by the first of its names. Where the embedding and the output of a language model
/// are one parameter, the table holds both, a `kEmbedding` and a `kLinear` of that weight, which may have one name.
///
/// `kBias` is a parameter that is added to an activation by broadcasting (a position embedding, the bias of a
/// decomposed linear layer), or that is a part of one by itself (a class token): it has no weight. `kScale` is a
/// parameter that an activation is multiplied by, element by element (a layer scale, the weight of a norm that is
/// written out).
struct Layer {
  std::string name;  ///< the weight's name without ".weight"; a row slice adds "[begin:end]"
  LayerKind kind = LayerKind::kLinear;
  std::string weight;                  ///< parameter name; empty for kBias
  std::string bias;                    ///< parameter name; empty where there is none
  int64_t row_begin = 0, row_end = 0;  ///< the rows (output units) of the stored weight and bias that are this layer
  bool transposed = false;             ///< stored [in, out]
  int64_t out = 0;                     ///< output units; for kBias the number of elements
  int64_t in =
      0;  ///< columns of the weight as a matrix: inputs a group times the kernel's positions; 1 for norms and scales
  int64_t groups = 1;  ///< of a convolution; each group is a matrix [out/groups, in] of its own
  std::vector<int64_t> kernel, stride, padding, dilation;  ///< of a convolution, one each spatial axis
  std::string input_of;  ///< the first layer that is fed the same tensor; its own name where none came before
};

/// The layers in the order of the forward pass.
struct LayerTable {
  std::vector<Layer> layers;
  std::map<std::string, std::string> aliases;  ///< every further name of a tied parameter -> its first name

  /// The first of that name; null where there is none.
  const Layer* find(const std::string& name) const;
};

/// The table as JSON, for the metadata of a file.
std::string to_json(const LayerTable& table);
/// @throws InputError where the text is not such a table
LayerTable layer_table_from_json(const std::string& text);

}  // namespace amalgam
