#include "solvers/methods/mats_factors.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "solvers/linear/diagonal_operator.h"
#include "solvers/linear/item_products.h"
#include "solvers/linear/jitter.h"
#include "solvers/linear/null_space.h"
#include "solvers/linear/operator_sum.h"
#include "solvers/methods/diagnostics.h"
#include "solvers/methods/layer_factors.h"
#include "solvers/methods/output_estimate.h"

namespace amalgam {
namespace {

/// B + δ tr(B)/n I, in place: [L, n, n].
void damp(at::Tensor& matrices, double damping) {
  at::Tensor diagonal = matrices.diagonal(0, -2, -1);
  diagonal.add_(diagonal.mean(-1, true) * damping);
}

/// M without its part in the projector's range: (I − Π) M (I − Π).
at::Tensor restricted(const at::Tensor& matrices, const at::Tensor& projector) {
  const at::Tensor half = matrices - projector.bmm(matrices);
  return half - half.bmm(projector);
}

at::Tensor per_item(const at::Tensor& scalars) { return scalars.view({-1, 1, 1}); }

/// a / b, and 0 where b is not positive.
at::Tensor quotient(const at::Tensor& a, const at::Tensor& b) { return at::where(b > 0, a / b, at::zeros_like(b)); }

/// Σ w M / tr(M) of matrices [L, n, n], to see which directions have energy.
void add_by_trace(at::Tensor& sum, const at::Tensor& matrices, double weight) {
  const at::Tensor scaled = matrices * per_item(quotient(at::full_like(traces(matrices), weight), traces(matrices)));
  sum = sum.defined() ? sum.add_(scaled) : scaled;
}

}  // namespace

MatsSystem::MatsSystem(const MergeInput& input, const std::vector<LayerMatrix>& layers, const FactorOptions& options,
                       const Checkpoint& checkpoint)
    : input_(input), batch_(input, layers), options_(options), sizes_{batch_.items(), batch_.rows(), batch_.columns()} {
  share_inputs();
  for (const ExpertInput& expert : input.experts) {
    checkpoint();
    // The layers of a batch are known alike by an expert, or they would not be in one.
    parts_.push_back(read(expert, knowledge_of(options, expert, layers.front())));
  }
  estimate_outputs();
  const NullSpace of_stored = all_kronecker() ? drop_unseen() : NullSpace{};
  for (Part& part : parts_) steady(part, of_stored);
  balance();
}

/// Finds neighbours that have one A, in a batch where every layer is one item.
void MatsSystem::share_inputs() {
  const auto& layers = batch_.layers();
  for (size_t i = 0; i < layers.size(); ++i) {
    if (i == 0 || layers[i].layer().input_of != layers[i - 1].layer().input_of)
      owner_layer_.push_back(static_cast<int64_t>(i));
    input_of_item_.push_back(std::ssize(owner_layer_) - 1);
  }
  const bool large = multiplied_alone(at::empty({1, 1, 1}, at::TensorOptions(input_.device)).expand(sizes_));
  if (large && sizes_[0] == std::ssize(layers) && owner_layer_.size() < layers.size()) return;
  input_of_item_.clear();
  owner_layer_ = all_items(std::ssize(layers));
}

at::Tensor MatsSystem::stack_inputs(const ExpertInput& expert) const {
  at::Tensor stored;
  int64_t next = 0;
  for (const int64_t owner : owner_layer_) {
    const LayerMatrix& layer = batch_.layers()[static_cast<size_t>(owner)];
    const at::Tensor gram = input_factor(expert, layer, input_.device, options_.form());
    if (!stored.defined()) stored = at::empty({stored_inputs(), sizes_[2], sizes_[2]}, gram.options());
    stored.slice(0, next, next + gram.size(0)).copy_(gram);
    next += gram.size(0);
  }
  return stored;
}

at::Tensor MatsSystem::of_items(const at::Tensor& stored) const {
  if (input_of_item_.empty()) return stored;
  return stored.index_select(0, at::tensor(input_of_item_, at::kLong).to(stored.device()));
}

/// What `normalise` makes of an expert's tr(C) [L].
at::Tensor MatsSystem::target_trace(const ExpertInput& expert, const Part& part, const at::Tensor& trace) const {
  if (options_.normalise == "trace") return at::ones_like(trace);
  if (options_.normalise == "outputs") return of_items(traces(part.term.input));
  if (options_.normalise == "fisher")
    return batch_.stack([&](const LayerMatrix& layer) { return summed_fisher(expert, layer, input_.device); },
                        at::kDouble);
  if (options_.normalise == "none") return trace;
  const auto examples = static_cast<double>(expert.statistics->header().examples());
  const auto per_row = [&](const LayerMatrix& layer) {
    const auto rows = static_cast<double>(expert.statistics->rows(layer.layer(), options_.form()));
    return at::full({layer.groups()}, examples / rows, at::kDouble);
  };
  return trace * batch_.stack(per_row, at::kDouble);
}

MatsSystem::Part MatsSystem::read(const ExpertInput& expert, LayerKnowledge knowledge) {
  Part part;
  part.term.weight = expert.weight;
  if (knowledge == LayerKnowledge::kDiagonal) {
    const auto squares = [&](const std::string& name) { return expert.statistics->squared_gradient(name); };
    part.diagonal = batch_.stack([&](const LayerMatrix& layer) { return layer.gather(squares); }, at::kDouble);
    effective_rank_.push_back(at::full({sizes_[0]}, std::numeric_limits<double>::quiet_NaN(), part.diagonal.options()));
  } else {
    part.term.input = stack_inputs(expert);
    effective_rank_.push_back(of_items(amalgam::effective_rank(part.term.input)));
    if (knowledge == LayerKnowledge::kKronecker)
      part.term.output = batch_.stack(
          [&](const LayerMatrix& layer) { return output_factor(expert, layer, input_.device, options_.form()); },
          at::kDouble);
    else  // B = I, written out: it is scaled by item
      part.term.output =
          at::eye(sizes_[1], part.term.input.options()).expand({sizes_[0], sizes_[1], sizes_[1]}).clone();
  }
  const at::Tensor trace = trace_of(part), factor = quotient(target_trace(expert, part, trace), trace);
  if (part.diagonal.defined()) {
    part.diagonal.mul_(per_item(factor));
    part.diagonal.add_(part.diagonal.mean({1, 2}, true) * options_.damping);
    return part;
  }
  part.term.output.mul_(per_item(factor));
  if (options_.off_diagonal_of != "outputs") scale_off_diagonal(part.term.input, options_.off_diagonal);
  if (options_.off_diagonal_of != "inputs") scale_off_diagonal(part.term.output, options_.off_diagonal);
  return part;
}

/// Pools, shrinks and damps every B.
void MatsSystem::estimate_outputs() {
  std::vector<at::Tensor> outputs;
  std::vector<double> weights;
  for (Part& part : parts_) {
    if (part.diagonal.defined()) continue;
    outputs.push_back(part.term.output);
    weights.push_back(part.term.weight);
  }
  pool_by_trace(outputs, weights, options_.pooling);
  for (size_t m = 0; m < parts_.size(); ++m) {
    at::Tensor& output = parts_[m].term.output;
    if (parts_[m].diagonal.defined()) continue;
    // Rows of one example are not independent: the samples are the examples.
    if (options_.shrinkage == "oas") shrink_to_trace(output, input_.experts[m].statistics->header().examples());
    damp(output, options_.damping);
  }
}

at::Tensor MatsSystem::trace_of(const Part& part) const {
  if (part.diagonal.defined()) return part.diagonal.sum({1, 2});
  return of_items(traces(part.term.input)) * traces(part.term.output);
}

bool MatsSystem::all_kronecker() const {
  return std::ranges::none_of(parts_, [](const Part& part) { return part.term.weight > 0 && part.diagonal.defined(); });
}

/// Sums of float32 products may have eigenvalues a little below zero, and conjugate gradients want none.
void MatsSystem::steady(Part& part, const NullSpace& of_stored) {
  at::Tensor jitter = at::zeros({sizes_[0]}, at::TensorOptions(input_.device).dtype(at::kDouble));
  if (!part.diagonal.defined()) {
    const at::Tensor of_input = of_items(add_jitter(part.term.input, of_stored.input)),
                     of_output = add_jitter(part.term.output, of_stored.output);
    jitter = at::maximum(of_input, of_output);
  }
  jitter_.push_back(jitter.cpu());
}

void MatsSystem::note_jitter(std::vector<LayerReport>& reports) const {
  for (size_t m = 0; m < jitter_.size(); ++m) {
    const std::vector<at::Tensor> of_layer = batch_.split(jitter_[m]);
    for (size_t i = 0; i < reports.size(); ++i)
      if (const double most = of_layer[i].max().item<double>(); most > 0)
        reports[i].notes.push_back(
            fmt::format("{:.0e} of the trace was added to a factor of task '{}': rounding had left it indefinite", most,
                        input_.experts[m].task));
  }
}

/// @return the projectors by stored A and by item's B
NullSpace MatsSystem::drop_unseen() {
  at::Tensor inputs, outputs;
  for (const Part& part : parts_) {
    if (part.diagonal.defined()) continue;                                    // of a task of weight 0
    const at::Tensor heard = traces(part.term.output).gt(0).to(at::kDouble);  // [L]
    at::Tensor heard_input = heard;                                           // of any item that has this A
    if (!input_of_item_.empty()) {
      heard_input = at::zeros({part.term.input.size(0)}, heard.options());
      heard_input.index_add_(0, at::tensor(input_of_item_, at::kLong).to(heard.device()), heard);
    }
    const at::Tensor seen_by = of_items(traces(part.term.input)).gt(0).to(at::kDouble);
    add_by_trace(inputs, part.term.input * per_item(heard_input.gt(0).to(at::kDouble)), part.term.weight);
    add_by_trace(outputs, part.term.output * per_item(seen_by), part.term.weight);
  }
  // Where B is damped it sees every output, however little the damping: what remains are items that nobody hears.
  const double threshold = options_.damping > 0 ? 0.0 : kNullThreshold;
  const at::Tensor right = null_space_projector(inputs), left = null_space_projector(outputs, threshold);
  for (Part& part : parts_) {
    if (part.diagonal.defined()) continue;
    if (right.defined()) part.term.input = restricted(part.term.input, right);
    if (left.defined()) part.term.output = restricted(part.term.output, left);
  }
  unseen_ = {left, right.defined() ? of_items(right) : right};
  return {left, right};
}

/// The solution stays, and float32 neither over- nor underflows where gradients are tiny. An item without any say stays
/// zero.
void MatsSystem::balance() {
  at::Tensor mean;  // [L]
  for (const at::Tensor& trace : say()) mean = mean.defined() ? mean + trace : trace;
  mean.div_(sizes_[1] * sizes_[2]);
  const at::Tensor factor = per_item(at::where(mean > 0, mean.reciprocal(), at::ones_like(mean)));
  for (Part& part : parts_) (part.diagonal.defined() ? part.diagonal : part.term.output).mul_(factor);
}

std::vector<at::Tensor> MatsSystem::say() const {
  std::vector<at::Tensor> say;
  for (const Part& part : parts_) say.push_back(trace_of(part) * part.term.weight);
  return say;
}

bool MatsSystem::has_closed_form() const {
  return all_kronecker() &&
         std::count_if(parts_.begin(), parts_.end(), [](const Part& part) { return part.term.weight > 0; }) <= 2;
}

std::unique_ptr<LinearOperator> MatsSystem::operator_of(const std::vector<const Part*>& parts,
                                                        at::ScalarType dtype) const {
  std::vector<KroneckerTerm> terms;
  at::Tensor diagonal;
  for (const Part* part : parts) {
    const KroneckerTerm& term = part->term;
    if (!part->diagonal.defined()) {
      terms.push_back({term.weight, term.output.to(dtype), term.input.to(dtype)});
    } else {
      const at::Tensor own = part->diagonal * term.weight;
      diagonal = diagonal.defined() ? diagonal + own : own;
    }
  }
  std::vector<OperatorSum::Part> sum;
  if (!terms.empty()) {
    const at::TensorOptions of = terms.front().input.options();
    auto op = std::make_unique<KroneckerSum>(sizes_, std::move(terms), of, input_of_item_);
    if (!diagonal.defined()) {
      op->set_null_space(unseen_);
      return op;
    }
    sum.push_back({1.0, std::move(op)});
  }
  auto op = std::make_unique<DiagonalOperator>(diagonal.to(dtype));
  if (sum.empty()) return op;
  sum.push_back({1.0, std::move(op)});
  return std::make_unique<OperatorSum>(std::move(sum));
}

std::unique_ptr<LinearOperator> MatsSystem::whole(at::ScalarType dtype) const {
  std::vector<const Part*> parts;
  for (const Part& part : parts_)
    if (part.term.weight > 0) parts.push_back(&part);
  return operator_of(parts, dtype);
}

at::Tensor MatsSystem::right_hand_side(const at::Tensor& reference) const {
  at::Tensor rhs = at::zeros_like(reference), image = at::empty_like(reference);
  for (size_t m = 0; m < parts_.size(); ++m) {
    if (parts_[m].term.weight <= 0) continue;
    const at::Tensor change = batch_.gather(input_.experts[m], at::kDouble) - reference;
    operator_of({&parts_[m]}, at::kDouble)->apply(change, image);
    rhs.add_(image);
  }
  return rhs;
}

at::Tensor MatsSystem::unseen_part(const at::Tensor& x) const { return unseen_.part(x); }

}  // namespace amalgam
