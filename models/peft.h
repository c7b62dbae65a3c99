#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/tensor_source.h"
#include "models/original_names.h"

namespace amalgam {

/// Adapters as the Python library PEFT keeps them: a folder with `adapter_config.json` and `adapter_model.safetensors`,
/// where a module "encoder.layer.0.attention.self.query" has `base_model.model.<module>.lora_A.weight` [rank, in] and
/// `….lora_B.weight` [out, rank], or `base_model.model.<module>.ia3_l`, [out, 1] or, of a feed-forward module, [1, in].
/// @source PEFT, "Checkpoint format"; compared by value with PEFT 0.21.2 in both directions

/// The two files of a folder.
std::vector<std::filesystem::path> peft_files(const std::filesystem::path& folder);

struct LoraScaling {
  int64_t rank = 0;
  double alpha = 0;
  bool rslora = false;
};

/// @param factors  by our names (core/low_rank.h), without the scale that `scaling` says
/// @param names    of the base
/// @param base     what PEFT is to call the base where `names` does not know
/// @throws InputError if a weight's original name does not end with ".weight": PEFT has no module for it
void write_lora(const std::filesystem::path& folder, const NamedTensors& factors, const LoraScaling& scaling,
                const OriginalNames& names, const std::string& base);

/// The model that an adapter is read for.
struct AdaptedModel {
  const std::vector<std::string>& parameters;      ///< names
  const std::map<std::string, TensorInfo>& infos;  ///< of all of them
  const OriginalNames& names;
};

/// Whether the parameter is a vector of (IA)³: "<module>.ia3_l".
bool is_ia3_vector(const std::string& parameter);

/// Whether an (IA)³ vector scales what goes into its module (true) or what comes out (false): as the base's record says
/// (models/export), else by its length. Nothing where the module's weight is square, or is none of the model's.
std::optional<bool> scales_input(const std::string& vector, const AdaptedModel& model);

/// @param vectors  of all outputs and inputs that are scaled, by our names
/// @param base     what PEFT is to call the base where its names do not know
/// @throws InputError for a vector of which is not known what it scales
void write_ia3(const std::filesystem::path& folder, const NamedTensors& vectors, const AdaptedModel& model,
               const std::string& base);

struct PeftAdapter {
  NamedTensors factors;  ///< of LORA, by our names, float32 (float64 of a float64 weight), the scale in B
  NamedTensors vectors;  ///< of IA3: values for the base's parameters "<module>.ia3_l"
};

/// Reads the folder and checks all of it against the model before anything is computed: names, ranks, shapes, dtypes,
/// finite values.
/// @throws InputError naming file and tensor
PeftAdapter read_peft(const std::filesystem::path& folder, const AdaptedModel& model);

/// The parameters that the adapter changes, as they are with it: W0 + B A, or the vectors.
NamedTensors with_adapter(const TensorSource& base, const PeftAdapter& adapter);

}  // namespace amalgam
