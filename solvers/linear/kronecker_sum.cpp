#include "solvers/linear/kronecker_sum.h"

#include <algorithm>
#include <limits>

#include "solvers/linear/item_products.h"
#include "solvers/linear/kronecker_fit.h"

namespace amalgam {
namespace {

std::array<int64_t, 3> sizes_of(const std::vector<KroneckerTerm>& terms) {
  TORCH_CHECK(!terms.empty(), "KroneckerSum: no terms");
  const KroneckerTerm& first = terms.front();
  TORCH_CHECK(first.input.defined() && first.output.defined() && first.input.dim() == 3 && first.output.dim() == 3,
              "KroneckerSum: factors are [L, n, n]");
  return {first.input.size(0), first.output.size(1), first.input.size(1)};
}

}  // namespace

KroneckerSum::KroneckerSum(std::vector<KroneckerTerm> terms)
    : sizes_(sizes_of(terms)), terms_(std::move(terms)), options_(terms_.front().input.options()) {
  check();
}

KroneckerSum::KroneckerSum(std::array<int64_t, 3> sizes, std::vector<KroneckerTerm> terms, at::TensorOptions options,
                           std::vector<int64_t> input_of_item)
    : sizes_(sizes), terms_(std::move(terms)), options_(options), input_of_item_(std::move(input_of_item)) {
  check();
}

void KroneckerSum::check() const {
  const auto [items, out, in] = sizes_;
  TORCH_CHECK(!terms_.empty(), "KroneckerSum: no terms");
  TORCH_CHECK(input_of_item_.empty() || static_cast<int64_t>(input_of_item_.size()) == items,
              "KroneckerSum: input_of_item has ", input_of_item_.size(), " of ", items, " items");
  int64_t stored = items;
  if (!input_of_item_.empty()) {
    TORCH_CHECK(*std::min_element(input_of_item_.begin(), input_of_item_.end()) >= 0, "KroneckerSum: a negative index");
    stored = *std::max_element(input_of_item_.begin(), input_of_item_.end()) + 1;
  }
  const auto check_factor = [&](const at::Tensor& factor, const char* name, int64_t count, int64_t size) {
    if (!factor.defined()) return;
    TORCH_CHECK(factor.sizes() == at::IntArrayRef({count, size, size}), "KroneckerSum: ", name, " has sizes ",
                factor.sizes(), ", expected ", at::IntArrayRef({count, size, size}));
    TORCH_CHECK(factor.is_floating_point(), "KroneckerSum: factors are ", factor.scalar_type());
    TORCH_CHECK(
        factor.scalar_type() == at::typeMetaToScalarType(options_.dtype()) && factor.device() == options_.device(),
        "KroneckerSum: factors differ in dtype or device");
  };
  for (const KroneckerTerm& term : terms_) {
    check_factor(term.input, "A", stored, in);
    check_factor(term.output, "B", items, out);
  }
}

int64_t KroneckerSum::input_index(int64_t item) const {
  return input_of_item_.empty() ? item : input_of_item_[static_cast<size_t>(item)];
}

at::Tensor KroneckerSum::inputs(const KroneckerTerm& term) const {
  if (!term.input.defined() || input_of_item_.empty()) return term.input;
  return term.input.index_select(0, at::tensor(input_of_item_, at::kLong).to(term.input.device()));
}

at::Tensor KroneckerSum::workspace(int64_t elements) const {
  if (!workspace_.defined() || workspace_.numel() < elements) workspace_ = at::empty({elements}, options_);
  return workspace_.slice(0, 0, elements);
}

void KroneckerSum::apply_impl(const at::Tensor& x, at::Tensor& out, const std::vector<int64_t>& items) const {
  const auto [count, rows, columns] = sizes_;
  const bool alone = multiplied_alone(x);
  const bool too_large = count * rows * columns * static_cast<int64_t>(options_.dtype().itemsize()) > workspace_bytes_;
  if (!alone && !too_large && input_of_item_.empty()) return apply_batch(x, out);
  // Runs of neighbours with one A are rows of one matrix.
  for (size_t i = 0; i < items.size();) {
    size_t end = i + 1;
    if (!input_of_item_.empty())
      while (end < items.size() && items[end] == items[end - 1] + 1 && input_index(items[end]) == input_index(items[i]))
        ++end;
    apply_item(x, out, items[i], static_cast<int64_t>(end - i));
    i = end;
  }
}

void KroneckerSum::apply_batch(const at::Tensor& x, at::Tensor& out) const {
  double keep = 0.0;  // the first term overwrites `out`
  at::Tensor product = workspace(x.numel()).view(sizes_);
  for (const KroneckerTerm& term : terms_) {
    if (term.output.defined()) at::bmm_out(product, term.output, x);  // B X [L, out, in]
    const at::Tensor& left = term.output.defined() ? product : x;
    if (term.input.defined()) {
      out.baddbmm_(left, term.input, keep, term.weight);  // + α B X A
    } else if (keep == 0.0) {
      at::mul_out(out, left, at::scalar_tensor(term.weight, left.options()));
    } else {
      out.add_(left, term.weight);
    }
    keep = 1.0;
  }
}

/// Items [first, first + count), which have one A; as many rows of the result at a time as the workspace holds.
void KroneckerSum::apply_item(const at::Tensor& x, at::Tensor& out, int64_t first, int64_t count) const {
  const int64_t rows = sizes_[1], columns = sizes_[2];
  const auto row_bytes = columns * static_cast<int64_t>(options_.dtype().itemsize());
  const int64_t most = std::max<int64_t>(workspace_bytes_ / row_bytes, 1);
  const int64_t items_at_once = std::clamp<int64_t>(most / rows, 1, count);
  const int64_t rows_at_once = items_at_once > 1 ? rows : std::min(most, rows);
  for (int64_t item = first; item < first + count; item += items_at_once) {
    const int64_t stop = std::min(item + items_at_once, first + count);
    for (int64_t begin = 0; begin < rows; begin += rows_at_once) {
      const int64_t end = std::min(begin + rows_at_once, rows), height = end - begin;
      const int64_t total = (stop - item) * height;
      at::Tensor product = workspace(total * columns).view({total, columns});
      at::Tensor result = out.slice(0, item, stop).slice(1, begin, end).view({total, columns});
      const at::Tensor same = x.slice(0, item, stop).slice(1, begin, end).view({total, columns});
      double keep = 0.0;
      for (const KroneckerTerm& term : terms_) {
        for (int64_t l = item; l < stop && term.output.defined(); ++l) {
          at::Tensor part = product.slice(0, (l - item) * height, (l - item + 1) * height);
          at::mm_out(part, term.output[l].slice(0, begin, end), x[l]);
        }
        const at::Tensor& left = term.output.defined() ? product : same;
        if (term.input.defined()) {
          at::addmm_out(result, result, left, term.input[input_index(item)], keep, term.weight);
        } else if (keep == 0.0) {
          at::mul_out(result, left, at::scalar_tensor(term.weight, left.options()));
        } else {
          result.add_(left, term.weight);
        }
        keep = 1.0;
      }
    }
  }
}

at::Tensor KroneckerSum::diagonal() const {
  at::Tensor sum = at::zeros(sizes_, options_);
  const at::Tensor ones = at::ones({1, 1, 1}, options_);
  for (const KroneckerTerm& term : kronecker_terms())
    sum.addcmul_(term.output.defined() ? term.output.diagonal(0, -2, -1).unsqueeze(2) : ones,
                 term.input.defined() ? term.input.diagonal(0, -2, -1).unsqueeze(1) : ones, term.weight);
  return sum;
}

std::vector<KroneckerTerm> KroneckerSum::kronecker_terms() const {
  std::vector<KroneckerTerm> terms = terms_;
  for (KroneckerTerm& term : terms) term.input = inputs(term);
  return terms;
}

NullSpace KroneckerSum::null_space() const {
  if (!null_space_) {
    const bool exact = options_.dtype() == at::kDouble;
    null_space_ = null_space_of(
        kronecker_terms(), sizes_,
        exact ? std::numeric_limits<double>::epsilon() : static_cast<double>(std::numeric_limits<float>::epsilon()));
  }
  return *null_space_;
}

at::Tensor KroneckerSum::null_part(const at::Tensor& x) const {
  check_operand(*this, x, "x");
  return null_space().part(x);
}

at::Tensor traces(const at::Tensor& matrices) { return matrices.diagonal(0, -2, -1).sum(-1, false, at::kDouble); }

}  // namespace amalgam
