#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace amalgam {

/// What the tensors of a TorchScript model were called where it came from (models/export writes it down). Where nothing
/// is known a tensor's name is its own.
class OriginalNames {
 public:
  OriginalNames() = default;

  /// From the extra file `names.json` in a TorchScript file, or else, where another program has written it anew, from
  /// `<stem>.names.json` beside it; nothing where there is neither.
  /// @throws InputError where the record is damaged
  static OriginalNames of_model(const std::filesystem::path& model);

  /// The original name of a tensor of the TorchScript.
  std::string original(const std::string& name) const;
  /// Which of the TorchScript's tensors an original name means: the one that has it; or that has the name itself; or
  /// the only one whose original name is the end of it, or of which it is the end (a model with a head calls its body
  /// "bert.", say).
  /// @param names  of the TorchScript
  std::optional<std::string> find(const std::string& original, const std::vector<std::string>& names) const;
  /// Whether the original has the tensor the other way round.
  bool is_transposed(const std::string& name) const;
  /// Whether a vector of (IA)³ scales its module's input (true) or output (false); nothing where that is not known.
  std::optional<bool> scales_input(const std::string& vector) const;
  /// What the model was made from; empty where that is not known.
  const std::string& source() const { return source_; }

 private:
  struct Original {
    std::string name;
    bool transposed = false;
  };
  std::string source_;
  std::map<std::string, Original> originals_;  // by the TorchScript's name
  std::map<std::string, bool> scales_input_;   // by the vector's name
};

}  // namespace amalgam
