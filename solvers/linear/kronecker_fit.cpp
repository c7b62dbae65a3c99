#include "solvers/linear/kronecker_fit.h"

#include <cmath>
#include <limits>
#include <span>

#include "solvers/linear/kronecker_sum.h"

namespace amalgam {
namespace {

/// Where the terms' factors are; the CPU where there is none.
at::Device device_of(const std::vector<KroneckerTerm>& terms) {
  for (const KroneckerTerm& term : terms)
    for (const at::Tensor* factor : {&term.input, &term.output})
      if (factor->defined()) return factor->device();
  return at::kCPU;
}

/// A term in float64, an identity where a factor is missing.
KroneckerTerm written_out(const KroneckerTerm& term, const std::array<int64_t, 3>& sizes, at::Device device) {
  const auto write = [&](const at::Tensor& factor, int64_t n) {
    if (factor.defined()) return factor.to(at::kDouble);
    return at::eye(n, at::TensorOptions(device).dtype(at::kDouble)).expand({sizes[0], n, n});
  };
  return {term.weight, write(term.output, sizes[1]), write(term.input, sizes[2])};
}

/// The inner products of the terms' factors with one another, of one item; and what follows from them alone.
class TermProducts {
 public:
  TermProducts(std::span<const double> output, std::span<const double> input, std::span<const double> output_trace,
               std::span<const double> input_trace, std::vector<double> weights)
      : output_(output),
        input_(input),
        output_trace_(output_trace),
        input_trace_(input_trace),
        weights_(std::move(weights)) {}

  size_t count() const { return weights_.size(); }

  /// A Kronecker product (Σ u_m B_m) ⊗ (Σ v_m A_m).
  struct Combination {
    std::vector<double> u, v;
  };

  /// The trace fit of the terms that are in.
  Combination trace_of(const std::vector<bool>& in) const {
    Combination fit{std::vector<double>(count()), std::vector<double>(count())};
    double scale = 0;
    for (size_t m = 0; m < count(); ++m)
      if (in[m]) scale += weights_[m] * output_trace_[m] * input_trace_[m];
    for (size_t m = 0; m < count() && scale > 0; ++m) {
      if (!in[m]) continue;
      fit.u[m] = weights_[m] * input_trace_[m] / scale;
      fit.v[m] = weights_[m] * output_trace_[m];
    }
    return fit;
  }

  /// ‖K − P − Q‖² less ‖K‖².
  double excess(const Combination& p, const Combination& q) const {
    return product(p, p) + product(q, q) + 2 * product(p, q) - 2 * with_sum(p) - 2 * with_sum(q);
  }

  /// How alike two terms are: the cosine between them.
  double cosine(size_t i, size_t j) const {
    const auto at = [&](size_t a, size_t b) { return output_[a * count() + b] * input_[a * count() + b]; };
    const double norms = std::sqrt(at(i, i) * at(j, j));
    return norms > 0 ? at(i, j) / norms : 0.0;
  }

 private:
  double form(std::span<const double> gram, const std::vector<double>& a, const std::vector<double>& b) const {
    double sum = 0;
    for (size_t i = 0; i < count(); ++i)
      for (size_t j = 0; j < count(); ++j) sum += a[i] * gram[i * count() + j] * b[j];
    return sum;
  }
  double product(const Combination& p, const Combination& q) const {
    return form(output_, p.u, q.u) * form(input_, p.v, q.v);
  }
  /// ⟨K, P⟩
  double with_sum(const Combination& p) const {
    double sum = 0;
    for (size_t m = 0; m < count(); ++m) {
      double output = 0, input = 0;
      for (size_t j = 0; j < count(); ++j) {
        output += output_[m * count() + j] * p.u[j];
        input += input_[m * count() + j] * p.v[j];
      }
      sum += weights_[m] * output * input;
    }
    return sum;
  }

  std::span<const double> output_, input_;              // [M, M]
  std::span<const double> output_trace_, input_trace_;  // [M]
  std::vector<double> weights_;                         // α [M]
};

/// Coefficients [L, M] of the factors.
struct Coefficients {
  at::Tensor output, input;

  explicit Coefficients(int64_t items, size_t terms)
      : output(at::empty({items, static_cast<int64_t>(terms)}, at::kDouble)), input(at::empty_like(output)) {}
  void set(int64_t item, const TermProducts::Combination& from) {
    std::copy(from.u.begin(), from.u.end(), output[item].data_ptr<double>());
    std::copy(from.v.begin(), from.v.end(), input[item].data_ptr<double>());
  }
  KroneckerPair combine(const std::vector<KroneckerTerm>& terms) const {
    KroneckerPair pair;
    for (size_t m = 0; m < terms.size(); ++m) {
      const auto column = static_cast<int64_t>(m);
      const auto scaled = [&](const at::Tensor& factor, const at::Tensor& coefficients) {
        return factor * coefficients.select(1, column).to(factor.device()).view({-1, 1, 1});
      };
      const at::Tensor b = scaled(terms[m].output, output), a = scaled(terms[m].input, input);
      pair.output = pair.output.defined() ? pair.output.add_(b) : b;
      pair.input = pair.input.defined() ? pair.input.add_(a) : a;
    }
    return pair;
  }
};

/// [L, M, M] on the CPU.
at::Tensor inner_products(const std::vector<at::Tensor>& factors) {
  const auto count = static_cast<int64_t>(factors.size());
  at::Tensor products = at::empty({factors[0].size(0), count, count}, factors[0].options());
  for (int64_t i = 0; i < count; ++i)
    for (int64_t j = i; j < count; ++j) {
      const at::Tensor product =
          (factors[static_cast<size_t>(i)] * factors[static_cast<size_t>(j)]).sum({1, 2});  // [L]
      products.select(1, i).select(1, j).copy_(product);
      products.select(1, j).select(1, i).copy_(product);
    }
  return products.cpu();
}

/// Calls `use(item, products)` for every item.
template <class Use>
void for_each_item(const std::vector<KroneckerTerm>& terms, const Use& use) {
  std::vector<at::Tensor> outputs, inputs, output_traces, input_traces;
  std::vector<double> weights;
  for (const KroneckerTerm& term : terms) {
    outputs.push_back(term.output);
    inputs.push_back(term.input);
    output_traces.push_back(traces(term.output));
    input_traces.push_back(traces(term.input));
    weights.push_back(term.weight);
  }
  const at::Tensor output = inner_products(outputs), input = inner_products(inputs);
  const at::Tensor output_trace = at::stack(output_traces, 1).cpu(), input_trace = at::stack(input_traces, 1).cpu();
  const size_t count = terms.size();
  const auto view = [](const at::Tensor& of, int64_t item, size_t size) {
    return std::span<const double>(of.data_ptr<double>() + item * static_cast<int64_t>(size), size);
  };
  for (int64_t item = 0; item < output.size(0); ++item)
    use(item, TermProducts(view(output, item, count * count), view(input, item, count * count),
                           view(output_trace, item, count), view(input_trace, item, count), weights));
}

std::array<TermProducts::Combination, 2> best_parts(const TermProducts& products) {
  const size_t count = products.count();
  std::array<TermProducts::Combination, 2> best{products.trace_of(std::vector<bool>(count, true)),
                                                products.trace_of(std::vector<bool>(count, false))};
  double least = count < 2 ? -std::numeric_limits<double>::infinity() : products.excess(best[0], best[1]);
  for (size_t i = 0; i < count; ++i)
    for (size_t j = i + 1; j < count; ++j) {
      std::vector<bool> first(count), second(count);
      for (size_t m = 0; m < count; ++m) {
        first[m] = m == i || (m != j && products.cosine(m, i) >= products.cosine(m, j));
        second[m] = !first[m];
      }
      const std::array<TermProducts::Combination, 2> parts{products.trace_of(first), products.trace_of(second)};
      const double excess = products.excess(parts[0], parts[1]);
      if (excess >= least) continue;
      least = excess;
      best = parts;
    }
  return best;
}

}  // namespace

TraceFactors trace_factors(const std::vector<KroneckerTerm>& terms, const std::array<int64_t, 3>& sizes) {
  TraceFactors sum;
  const at::Device device = device_of(terms);
  for (const KroneckerTerm& given : terms) {  // one in float64 at a time
    const KroneckerTerm term = written_out(given, sizes, device);
    const at::Tensor input_trace = traces(term.input), output_trace = traces(term.output);  // [L]
    const at::Tensor scale = input_trace * output_trace * term.weight;                      // [L]
    const at::Tensor weighted_input = term.input * (output_trace * term.weight).view({-1, 1, 1});
    const at::Tensor weighted_output = term.output * (input_trace * term.weight).view({-1, 1, 1});
    if (!sum.scale.defined()) {
      sum = {weighted_input, weighted_output, scale};
    } else {
      sum.input += weighted_input;
      sum.output += weighted_output;
      sum.scale += scale;
    }
  }
  return sum;
}

NullSpace null_space_of(const std::vector<KroneckerTerm>& terms, const std::array<int64_t, 3>& sizes, double epsilon) {
  const TraceFactors mean = trace_factors(terms, sizes);
  const auto projector = [&](const at::Tensor& factor) {
    return null_space_projector(factor, 4 * epsilon * static_cast<double>(factor.size(1)));
  };
  return {projector(mean.output), projector(mean.input)};
}

KroneckerPair trace_fit(const std::vector<KroneckerTerm>& terms, const std::array<int64_t, 3>& sizes) {
  const TraceFactors mean = trace_factors(terms, sizes);
  const at::Tensor scale = at::where(mean.scale > 0, mean.scale, at::ones_like(mean.scale));
  return {mean.output / scale.view({-1, 1, 1}), mean.input};
}

std::array<KroneckerPair, 2> two_part_fit(const std::vector<KroneckerTerm>& terms,
                                          const std::array<int64_t, 3>& sizes) {
  std::vector<KroneckerTerm> whole;
  for (const KroneckerTerm& term : terms) whole.push_back(written_out(term, sizes, device_of(terms)));
  Coefficients first(sizes[0], whole.size()), second(sizes[0], whole.size());
  for_each_item(whole, [&](int64_t item, const TermProducts& products) {
    const auto parts = best_parts(products);
    first.set(item, parts[0]);
    second.set(item, parts[1]);
  });
  return {first.combine(whole), second.combine(whole)};
}

}  // namespace amalgam
