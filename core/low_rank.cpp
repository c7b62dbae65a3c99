#include "core/low_rank.h"

#include <algorithm>

#include "core/error.h"

namespace amalgam {
namespace {

constexpr const char* kDown = ".lora_A";
constexpr const char* kUp = ".lora_B";

}  // namespace

std::string down_name(const std::string& weight) { return weight + kDown; }

std::string up_name(const std::string& weight) { return weight + kUp; }

std::vector<std::string> adapted_weights(const TensorSource& adapter) {
  std::vector<std::string> weights;
  for (const auto& [name, info] : adapter.infos())
    if (name.ends_with(kDown)) weights.push_back(name.substr(0, name.size() - std::string_view(kDown).size()));
  return weights;
}

LowRank read_low_rank(const TensorSource& adapter, const std::string& weight, const at::TensorOptions& options) {
  return {adapter.get(down_name(weight)).to(options), adapter.get(up_name(weight)).to(options)};
}

Truncation truncate(const at::Tensor& change, int64_t rank) {
  TORCH_CHECK(change.dim() == 2 && rank >= 1, "a matrix and a rank of at least 1 are expected, here are ",
              change.sizes(), " and ", rank);
  const auto [u, s, vh] = at::linalg_svd(change.to(at::kDouble), /*full_matrices=*/false);
  const int64_t kept = std::min(rank, s.size(0));
  const at::Tensor root = s.slice(0, 0, kept).sqrt();
  const at::Tensor up = u.slice(1, 0, kept) * root, down = root.unsqueeze(1) * vh.slice(0, 0, kept);
  const auto dtype = change.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const auto filled = [&](const at::Tensor& factor, std::vector<int64_t> padding) {
    return at::constant_pad_nd(factor, padding).to(dtype).contiguous();
  };
  Truncation result;
  result.factors = {filled(down, {0, 0, 0, rank - kept}), filled(up, {0, rank - kept})};
  result.squared_error = s.slice(0, kept).square().sum().item<double>();
  result.squared_norm = s.square().sum().item<double>();
  return result;
}

}  // namespace amalgam
