#include "solvers/methods/della.h"

#include <c10/util/accumulate.h>

#include <algorithm>

#include "core/error.h"
#include "solvers/methods/element_draws.h"
#include "solvers/methods/pieces.h"
#include "solvers/methods/row_ranks.h"
#include "solvers/methods/sign_election.h"
#include "solvers/methods/task_vectors.h"

namespace amalgam {
namespace {

const RegisterMethod<Della> registered("della", "changes dropped at random by their rank, then sign election",
                                       "Deep, Bhardwaj & Poria 2024 (DELLA-Merging)");

}  // namespace

MethodRequirements Della::requirements() const { return {.base = true}; }

void Della::declare_options(OptionSet& set) {
  set.real("drop", drop_, {0, 1}, "mean probability that an element's change is dropped, p");
  set.real("window", window_, {0, 1}, "by how much that of a row's smallest change is above that of its largest, 2 ε");
  set.real("scale", scale_, {}, "factor of the merged change, λ");
}

void Della::configure(const std::string& where) {
  const double half = window_ / 2;
  require_input(drop_ - half >= 0 && drop_ + half < 1,
                "{}: `drop` {} with `window` {} gives probabilities from {} to {}; they must be from 0 to below 1",
                where, drop_, window_, drop_ - half, drop_ + half);
}

at::Tensor Della::stay_probability(const at::Tensor& change, int64_t row) const {
  const double least = row > 1 ? 1.0 - drop_ - window_ / 2 : 1.0 - drop_;
  const double step = row > 1 ? window_ / static_cast<double>(row - 1) : 0.0;
  const at::Tensor ranks = ranks_in_rows(change.view({-1, row}).abs());
  return ranks.to(at::kDouble).mul_(step).add_(least).view(change.sizes()).to(change.device());
}

at::Tensor Della::merge_parameter(const MergeInput& input, const std::string& name) {
  const std::vector<int64_t>& shape = input.base->infos().at(name).shape;
  const int64_t count = c10::multiply_integers(shape), row = shape.size() > 1 && count > 0 ? count / shape[0] : count;
  return merge_in_pieces(
      input, name, [&](const MergeInput& piece, int64_t first) { return merge_rows(piece, name, row, first); }, row);
}

at::Tensor Della::merge_rows(const MergeInput& input, const std::string& name, int64_t row, int64_t first) const {
  HeardVectors vectors = heard_task_vectors(input, name);
  size_t heard = 0;
  for (const ExpertInput& expert : input.experts) {
    if (expert.weight == 0.0) continue;
    at::Tensor& change = vectors.changes[heard++];
    const at::Tensor stay = stay_probability(change, row);
    const at::Tensor draws =
        element_draws(input.seed, "della", expert.task, name, change.sizes(), first).to(change.device());
    change = (change / stay.to(change.scalar_type())).masked_fill_(draws >= stay, 0);
  }
  const at::Tensor sign = elected_sign(vectors.changes, vectors.weights, 1);
  return read_parameter(*input.base, name, input.device)
      .add(mean_of_agreeing(vectors.changes, vectors.weights, sign), scale_);
}

}  // namespace amalgam
