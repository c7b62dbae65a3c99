#include "core/digest.h"

#include <fmt/ranges.h>
#include <openssl/evp.h>

#include <array>
#include <fstream>
#include <vector>

#include "core/error.h"

namespace amalgam {

struct Digest::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~State() { EVP_MD_CTX_free(context); }
};

Digest::Digest() : state_(std::make_unique<State>()) {
  TORCH_INTERNAL_ASSERT(state_->context && EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr) == 1);
}

Digest::~Digest() = default;

void Digest::add(const void* data, size_t size) {
  TORCH_INTERNAL_ASSERT(EVP_DigestUpdate(state_->context, data, size) == 1);
}

void Digest::add(const std::string& name, const at::Tensor& tensor) {
  const auto plain = tensor.detach().cpu().contiguous();
  add(fmt::format("{}\n{}\n[{}]\n", name, c10::toString(plain.scalar_type()), fmt::join(plain.sizes(), ",")));
  add(plain.const_data_ptr(), plain.nbytes());
}

std::string Digest::hex() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> bytes{};
  unsigned size = 0;
  TORCH_INTERNAL_ASSERT(EVP_DigestFinal_ex(state_->context, bytes.data(), &size) == 1);
  std::string text;
  for (unsigned i = 0; i < size; ++i) text += fmt::format("{:02x}", bytes[i]);
  return text;
}

std::string digest_of(std::string_view text) {
  Digest digest;
  digest.add(text);
  return digest.hex();
}

std::string digest_of_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  require_input(file.good() && !std::filesystem::is_directory(path), "cannot read {}", path.string());
  Digest digest;
  std::vector<char> chunk(size_t{1} << 20);
  while (file) {
    file.read(chunk.data(), static_cast<std::streamsize>(chunk.size()));
    digest.add(chunk.data(), static_cast<size_t>(file.gcount()));
  }
  return digest.hex();
}

std::string digest_of(const TensorSource& tensors) {
  Digest digest;
  for (const auto& [name, info] : tensors.infos()) digest.add(name, tensors.get(name));
  return digest.hex();
}

}  // namespace amalgam
