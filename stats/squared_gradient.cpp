#include "stats/squared_gradient.h"

#include "core/squared_product.h"
#include "stats/rows.h"
#include "stats/vector_gradient.h"

namespace amalgam {
namespace {

std::vector<LayerUse> with_gradient(const std::vector<LayerUse>& uses) {
  std::vector<LayerUse> kept;
  for (const LayerUse& use : uses)
    if (use.output_gradient.defined()) kept.push_back(use);
  return kept;
}

// Calls body(uses of a chunk) over chunks of examples.
template <class Body>
void for_each_part(const std::vector<LayerUse>& uses, int64_t bytes_per_example, int64_t limit_bytes, Body body) {
  for_each_chunk(examples_of(uses[0]), bytes_per_example, limit_bytes, [&](int64_t begin, int64_t count) {
    std::vector<LayerUse> parts;
    for (const LayerUse& use : uses) parts.push_back(narrow(use, begin, count));
    body(parts);
  });
}

// The layer's rows of a weight of linear or convolution kind, as matrices: a view [groups, out/groups, in].
at::Tensor matrices_of(const Layer& layer, const at::Tensor& parameter) {
  const at::Tensor stored = layer.transposed ? parameter.t() : parameter;
  const at::Tensor rows = stored.narrow(0, layer.row_begin, layer.out);
  if (layer.kind == LayerKind::kLinear) return rows.unsqueeze(0);
  return rows.view({layer.groups, layer.out / layer.groups, layer.in});
}

// Below so many numbers a group, one batched product over all groups is quicker than one call a group.
constexpr int64_t kSmallMatrix = 1024;

// Whether the gradient of each example is in memory on its way: [groups N, out/groups, in].
bool makes_matrices(const Layer& layer, const LayerUse& use) {
  const bool small = layer.groups > 1 && layer.out / layer.groups * layer.in < kSmallMatrix;
  return small || !has_fused_squared_product(without_half_precision(use.output_gradient));
}

// squared [groups, out/groups, in] += Σ_n (Σ_t g_nt a_ntᵀ)², over the positions of all uses
void add_matrix_part(const Layer& layer, const std::vector<LayerUse>& uses, at::Tensor& squared) {
  std::vector<at::Tensor> inputs, gradients;
  for (const LayerUse& use : uses) {
    inputs.push_back(input_rows(layer, use.input));
    gradients.push_back(output_rows(layer, use.output_gradient));
  }
  const at::Tensor a = inputs.size() == 1 ? inputs[0] : at::cat(inputs, 2);           // [groups, N, T, in]
  const at::Tensor g = gradients.size() == 1 ? gradients[0] : at::cat(gradients, 2);  // [groups, N, T, out/groups]
  if (makes_matrices(layer, uses[0])) {
    at::Tensor matrices = at::bmm(g.flatten(0, 1).mT(), a.flatten(0, 1));
    squared.add_(matrices.square_().unflatten(0, {layer.groups, -1}).sum(1));
  } else {
    for (int64_t group = 0; group < layer.groups; ++group)
      add_squared_products(g.select(0, group), a.select(0, group), squared.select(0, group));
  }
}

// The same with one row an example, where (g aᵀ)² = g² (a²)ᵀ: squared += Σ_n g_n² (a_n²)ᵀ
void add_single_row_part(const Layer& layer, const LayerUse& use, at::Tensor& squared) {
  const at::Tensor a = input_rows(layer, use.input).flatten(1, 2);             // [groups, N, in]
  const at::Tensor g = output_rows(layer, use.output_gradient).flatten(1, 2);  // [groups, N, out/groups]
  squared.add_(at::bmm(g.square().mT(), a.square()));
}

void add_squared_matrix_gradient(const Layer& layer, const std::vector<LayerUse>& uses, at::Tensor& squared,
                                 int64_t limit_bytes) {
  at::Tensor matrices = matrices_of(layer, squared);
  int64_t positions = 0;
  for (const LayerUse& use : uses) positions += positions_of(layer, use);
  const bool single_row = positions == 1;
  const int64_t rows = 2 * positions * (layer.groups * layer.in + layer.out);  // as they are, and squared or in panels
  const int64_t numbers = !single_row && makes_matrices(layer, uses[0]) ? rows + layer.out * layer.in : rows;
  for_each_part(uses, numbers * uses[0].output_gradient.element_size(), limit_bytes, [&](const auto& parts) {
    if (single_row)
      add_single_row_part(layer, parts[0], matrices);
    else
      add_matrix_part(layer, parts, matrices);
  });
}

// rows of `squared` [in, out] at the indices += values; without atomics, whose order would differ from run to run.
void add_at(at::Tensor& squared, const at::Tensor& indices, const at::Tensor& values) {
  if (squared.is_cuda())
    squared.index_put_({indices}, values, /*accumulate=*/true);
  else
    squared.index_add_(0, indices, values);
}

// The gradient of each example by the rows of an embedding that it touches.
struct TouchedRows {
  at::Tensor indices;    // [N, T]
  at::Tensor gradients;  // [N, T, out]: at the first position of each index, zero at the others
};

// The positions of one example that hold the same index are found by comparing all with all: [N, T, T], but no round
// trip to the host, and a fixed order of summation.
TouchedRows touched_rows(const std::vector<LayerUse>& uses) {
  std::vector<at::Tensor> inputs, gradients;
  for (const LayerUse& use : uses) {
    inputs.push_back(use.input);
    gradients.push_back(without_half_precision(use.output_gradient));
  }
  const at::Tensor indices = at::cat(inputs, 1);                          // [N, T]
  const at::Tensor g = at::cat(gradients, 1);                             // [N, T, out]
  const at::Tensor same = indices.unsqueeze(2).eq(indices.unsqueeze(1));  // [N, T, T]
  const at::Tensor repeats = same.tril(-1).any(2).unsqueeze(2);           // [N, T, 1]: stood there before
  return {indices, at::bmm(same.to(g.dtype()), g).masked_fill_(repeats, 0)};
}

void add_embedding_part(const std::vector<LayerUse>& uses, at::Tensor& squared) {
  const TouchedRows rows = touched_rows(uses);
  add_at(squared, rows.indices.flatten(), rows.gradients.square().flatten(0, 1).to(squared.dtype()));
}

// squared += 2 Σ_n E_n ⊙ H_n
void add_tied_part(const std::vector<LayerUse>& embedding, const std::vector<LayerUse>& head, at::Tensor& squared) {
  const TouchedRows rows = touched_rows(embedding);
  at::Tensor of_head = at::zeros_like(rows.gradients);  // H_n at those rows
  for (const LayerUse& use : head) {
    const at::Tensor a = without_half_precision(use.input);            // [N, T, d]
    const at::Tensor g = without_half_precision(use.output_gradient);  // [N, T, V]
    const at::Tensor at_rows = g.gather(2, rows.indices.unsqueeze(1).expand({-1, g.size(1), -1}));
    of_head.baddbmm_(at_rows.mT(), a);
  }
  add_at(squared, rows.indices.flatten(), of_head.mul_(rows.gradients).mul_(2).flatten(0, 1).to(squared.dtype()));
}

void add_squared_embedding_gradient(const Layer& layer, const std::vector<LayerUse>& uses, at::Tensor& squared,
                                    int64_t limit_bytes) {
  int64_t positions = 0;
  for (const LayerUse& use : uses) positions += positions_of(layer, use);
  const int64_t bytes = positions * (positions + 3 * layer.out) * static_cast<int64_t>(sizeof(double));
  for_each_part(uses, bytes, limit_bytes, [&](const auto& parts) { add_embedding_part(parts, squared); });
}

}  // namespace

void add_squared_weight_gradient(const Layer& layer, const std::vector<LayerUse>& uses, at::Tensor& squared,
                                 int64_t limit_bytes) {
  TORCH_CHECK(layer.kind != LayerKind::kBias, "layer '", layer.name, "' has no weight");
  const std::vector<LayerUse> used = with_gradient(uses);
  if (used.empty()) return;
  switch (layer.kind) {
    case LayerKind::kLinear:
    case LayerKind::kConvolution:
      return add_squared_matrix_gradient(layer, used, squared, limit_bytes);
    case LayerKind::kEmbedding:
      return add_squared_embedding_gradient(layer, used, squared, limit_bytes);
    default:
      squared.view({-1}).add_(weight_vector_gradients(layer, used, limit_bytes).square().sum(0));
  }
}

void add_squared_tied_gradient(const Layer& embedding, const std::vector<LayerUse>& embedding_uses, const Layer& head,
                               const std::vector<LayerUse>& head_uses, at::Tensor& squared, int64_t limit_bytes) {
  add_squared_weight_gradient(embedding, embedding_uses, squared, limit_bytes);
  add_squared_weight_gradient(head, head_uses, squared, limit_bytes);
  const auto of_embedding = with_gradient(embedding_uses), of_head = with_gradient(head_uses);
  if (of_embedding.empty() || of_head.empty()) return;
  int64_t tokens = 0, rows = 0;
  for (const LayerUse& use : of_embedding) tokens += positions_of(embedding, use);
  for (const LayerUse& use : of_head) rows += positions_of(head, use);
  const int64_t bytes = tokens * (tokens + 4 * embedding.out + 2 * rows) * static_cast<int64_t>(sizeof(float));
  for_each_chunk(examples_of(of_head[0]), bytes, limit_bytes, [&](int64_t begin, int64_t count) {
    std::vector<LayerUse> embedding_part, head_part;
    for (const LayerUse& use : of_embedding) embedding_part.push_back(narrow(use, begin, count));
    for (const LayerUse& use : of_head) head_part.push_back(narrow(use, begin, count));
    add_tied_part(embedding_part, head_part, squared);
  });
}

void add_squared_bias_gradient(const Layer& layer, const std::vector<LayerUse>& uses, at::Tensor& squared) {
  const at::Tensor gradients = bias_gradients(uses);  // [N, out]
  if (gradients.defined()) squared.view({-1}).narrow(0, layer.row_begin, layer.out).add_(gradients.square().sum(0));
}

}  // namespace amalgam
