#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace amalgam {

/// What amalgam knows of a PEFT `adapter_config.json`.
struct PeftConfig {
  std::string type = "LORA";  ///< LORA | IA3
  std::string base_model;     ///< `base_model_name_or_path`
  std::vector<std::string> target_modules;
  // Of LORA
  int64_t rank = 0;
  double alpha = 0;
  bool rslora = false;
  // Of IA3
  std::vector<std::string> feedforward_modules;  ///< scaled at their input; the other targets at their output
};

/// What PEFT's `PeftModel.from_pretrained` reads.
void write_peft_config(const std::filesystem::path& path, const PeftConfig& config);

/// Reads a configuration that a stranger wrote. Keys that change what the tensors mean are refused by name unless they
/// are off: dora, biases, modules_to_save, patterns of ranks; likewise every key that is not known.
/// @throws InputError naming file and key
PeftConfig read_peft_config(const std::filesystem::path& path);

}  // namespace amalgam
