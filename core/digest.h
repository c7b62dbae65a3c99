#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "core/tensor_source.h"

namespace amalgam {

/// SHA-256, step by step.
class Digest {
 public:
  Digest();
  ~Digest();
  Digest(const Digest&) = delete;
  Digest& operator=(const Digest&) = delete;

  void add(const void* data, size_t size);
  void add(std::string_view text) { add(text.data(), text.size()); }
  /// Adds name, dtype, shape and bytes.
  void add(const std::string& name, const at::Tensor& tensor);

  /// 64 hexadecimal digits. The object is spent.
  std::string hex();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string digest_of(std::string_view text);
/// @throws InputError if the file cannot be read
std::string digest_of_file(const std::filesystem::path& path);
/// Over the tensors sorted by name: name, dtype, shape, bytes. Says which expert a file of statistics belongs to.
std::string digest_of(const TensorSource& tensors);

}  // namespace amalgam
