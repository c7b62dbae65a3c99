#include "stats/verify.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "core/digest.h"
#include "core/error.h"
#include "stats/rows.h"
#include "stats/sum_table.h"

namespace amalgam {
namespace {

constexpr double kEpsilon = std::numeric_limits<float>::epsilon();
constexpr double kSmallest = std::numeric_limits<float>::min();
constexpr int64_t kStrip = 256;  // rows of a Gram matrix at a time, so that temporaries stay small

// "fc/input_gram" is the sum "input_gram" of "fc"; names of layers may hold slashes.
std::pair<std::string, std::string> split_name(const std::string& name) {
  const auto slash = name.rfind('/');
  return {name.substr(0, slash), slash == std::string::npos ? "" : name.substr(slash + 1)};
}

bool is_sum_of_squares(const std::string& sum) { return sum == "squared_gradient" || sum == "output_square_sum"; }
bool is_gram(const std::string& sum) { return sum == "input_gram" || sum == "output_gram"; }

// The sum's name without "reduced_".
std::string expanded(const std::string& sum) {
  const std::string prefix = sum_name("", KroneckerForm::kReduce);
  return sum.starts_with(prefix) ? sum.substr(prefix.size()) : sum;
}

KroneckerForm form_of(const std::string& sum) {
  return expanded(sum) == sum ? KroneckerForm::kExpand : KroneckerForm::kReduce;
}

class Verifier {
 public:
  Verifier(const Statistics& statistics, const VerifyOptions& options)
      : header_(statistics.header()), sums_(statistics.sums()), options_(options) {}

  std::vector<std::string> findings() {
    check_expert();
    Digest digest;
    const auto former = former_sums(header_);
    for (const auto& [name, info] : sums_.infos()) {
      const at::Tensor sum = sums_.get(name);
      digest.add(name, sum);
      if (!former.contains(name)) check_sum(name, sum);
    }
    check_digest(digest.hex());
    check_shared_rows();
    return std::move(findings_);
  }

 private:
  template <class... Args>
  void found(fmt::format_string<Args...> format, Args&&... args) {
    findings_.push_back(fmt::format(format, std::forward<Args>(args)...));
  }

  void check_expert() {
    if (options_.expert_digest.empty() || options_.expert_digest == header_.expert_digest) return;
    found("they belong to another expert: theirs has SHA-256 {}, and the one given {}", header_.expert_digest,
          options_.expert_digest);
  }

  void check_digest(const std::string& digest) {
    if (header_.sums_digest == digest) return;
    found("the sums have SHA-256 {}, but the header says {}: they were changed after they were written", digest,
          header_.sums_digest.empty() ? "nothing" : header_.sums_digest);
  }

  void check_sum(const std::string& name, const at::Tensor& stored) {
    const auto [owner, sum] = split_name(name);
    if (!stored.is_floating_point()) {
      check_rows(name, owner, sum, stored.item<int64_t>());
      return;
    }
    if (const int64_t broken = stored.numel() - stored.isfinite().sum().item<int64_t>(); broken > 0) {
      found("'{}': {} of its {} values are not finite", name, broken, stored.numel());
      return;
    }
    if (is_sum_of_squares(sum)) check_not_negative(name, stored);
    if (is_gram(expanded(sum))) check_gram(name, stored);
    if (sum == "gradient_gram") check_gradient_gram(name, owner, stored);
    if (sum == "output_sum") check_mean(name, stored, owner + "/output_square_sum");
    if (expanded(sum) == "input_sum") check_mean(name, stored, owner + "/" + sum_name("input_gram", form_of(sum)));
  }

  void check_not_negative(const std::string& name, const at::Tensor& stored) {
    if (stored.numel() > 0 && stored.min().item<double>() < 0)
      found("'{}' is a sum of squares, and holds {:g}", name, stored.min().item<double>());
  }

  void check_rows(const std::string& name, const std::string& owner, const std::string& sum, int64_t rows) {
    if (rows < 0) found("'{}' counts {} rows", name, rows);
    if (form_of(sum) == KroneckerForm::kExpand) return;
    if (rows > header_.examples())
      found("'{}' counts {} examples, of {} in the file's ranges", name, rows, header_.examples());
    if (const auto all = count(owner + "/rows"); all && rows > *all)
      found("'{}' counts {} examples with a row, of {} rows", name, rows, *all);
  }

  std::optional<int64_t> count(const std::string& name) const {
    if (!sums_.contains(name)) return std::nullopt;
    return sums_.get(name).item<int64_t>();
  }

  // Observations that entered a sum.
  double rows_of(const std::string& name) const {
    const auto [owner, sum] = split_name(name);
    const auto rows = count(owner + "/" + sum_name("rows", form_of(sum)));
    return static_cast<double>(std::max<int64_t>(0, rows.value_or(header_.examples())));
  }

  int64_t block_of(const std::string& name) const {
    const auto found = header_.blocks.find(name);
    return found == header_.blocks.end() ? 0 : found->second;
  }

  // Columns of one matrix of a Gram sum, of which blocks may be stored. An embedding may have the layer's name, too.
  std::pair<int64_t, int64_t> groups_and_width(const std::string& name) const {
    const auto [owner, sum] = split_name(name);
    for (const Layer& layer : header_.layers.layers)
      if (layer.name == owner && has_rows(layer))
        return {layer.groups, expanded(sum) == "input_gram" ? layer.in : layer.out / layer.groups};
    throw InputError(fmt::format("there is no layer of '{}'", name));
  }

  void check_gram(const std::string& name, const at::Tensor& stored) {
    const int64_t block = block_of(name);
    if (block == 1) {
      check_not_negative(name, stored);
      return;
    }
    const auto [groups, width] = groups_and_width(name);
    const double slack = rows_of(name) * kSmallest;
    const int64_t side = stored.size(-1);
    const at::Tensor matrices = stored.view({groups, -1, side, side});  // [groups, k, b, b]
    const int64_t last = width - (matrices.size(1) - 1) * side;         // columns of the last block
    for (int64_t group = 0; group < groups; ++group)
      for (int64_t k = 0; k < matrices.size(1); ++k) {
        const at::Tensor matrix = matrices[group][k];
        const std::string where = matrices.size(0) * matrices.size(1) == 1
                                      ? fmt::format("'{}'", name)
                                      : fmt::format("'{}', group {}, block {}", name, group, k);
        if (k + 1 == matrices.size(1) && matrix.narrow(0, last, side - last).count_nonzero().item<int64_t>() > 0)
          found("{}: what fills it up, from row {} on, is not zero", where, last);
        check_matrix(where, matrix, slack);
      }
  }

  void check_gradient_gram(const std::string& name, const std::string& parameter, const at::Tensor& stored) {
    const double slack = static_cast<double>(header_.examples()) * kSmallest;
    check_matrix(fmt::format("'{}'", name), stored, slack);
    const std::string of_squares = parameter + "/squared_gradient";
    if (stored.numel() == 0 || !sums_.contains(of_squares)) return;
    const at::Tensor squares = sums_.get(of_squares).to(at::kDouble).flatten();
    const at::Tensor diagonal = stored.diagonal().to(at::kDouble);
    const at::Tensor excess =
        (diagonal - squares).abs() - at::maximum(diagonal, squares) * (options_.tolerance * kEpsilon) - slack;
    if (!(excess.max().item<double>() > 0)) return;  // what is no number is said of the squares
    const auto i = excess.argmax().item<int64_t>();
    found("'{}': its diagonal holds {:g} at element {}, but '{}' holds {:g}", name, diagonal[i].item<double>(), i,
          of_squares, squares[i].item<double>());
  }

  /// @param matrix  [n, n]
  /// @param slack   what each sum of squares may lack
  void check_matrix(const std::string& where, const at::Tensor& matrix, double slack) {
    const at::Tensor diagonal = matrix.diagonal().to(at::kDouble);
    if (diagonal.numel() == 0) return;
    if (const double least = diagonal.min().item<double>(); least < 0) {
      found("{}: its diagonal holds {:g}", where, least);
      return;
    }
    const at::Tensor root = (diagonal + slack).sqrt();
    const double factor = 1 + options_.tolerance * kEpsilon;
    for (int64_t begin = 0; begin < matrix.size(0); begin += kStrip) {
      const int64_t rows = std::min(kStrip, matrix.size(0) - begin);
      const at::Tensor strip = matrix.narrow(0, begin, rows), mirrored = matrix.narrow(1, begin, rows).t();
      if (!strip.equal(mirrored)) {
        const auto [i, j] = largest_at((strip - mirrored).abs());
        found("{}: it is not symmetric, at row {}, column {}: {:g} and {:g}", where, begin + i, j,
              matrix[begin + i][j].item<double>(), matrix[j][begin + i].item<double>());
        return;
      }
      const at::Tensor limit = at::outer(root.narrow(0, begin, rows), root).mul_(factor);
      const at::Tensor excess = strip.to(at::kDouble).abs() - limit;
      if (excess.max().item<double>() <= 0) continue;
      const auto [i, j] = largest_at(excess);
      found("{}: {:g} at row {}, column {} is more than its diagonal, {:g} and {:g}, allows", where,
            matrix[begin + i][j].item<double>(), begin + i, j, diagonal[begin + i].item<double>(),
            diagonal[j].item<double>());
      return;
    }
  }

  static std::pair<int64_t, int64_t> largest_at(const at::Tensor& matrix) {
    const auto at = matrix.argmax().item<int64_t>();
    return {at / matrix.size(1), at % matrix.size(1)};
  }

  /// Σ x_i²: a sum of squares as it is, of a Gram matrix the diagonal; one after another, float64.
  at::Tensor squares(const std::string& name) const {
    const at::Tensor stored = sums_.get(name);
    if (!is_gram(expanded(split_name(name).second)) || block_of(name) == 1) return stored.to(at::kDouble).flatten();
    const auto [groups, width] = groups_and_width(name);
    const int64_t side = stored.size(-1);
    const at::Tensor diagonals = stored.view({groups, -1, side, side}).diagonal(0, 2, 3);  // [groups, k, b]
    return diagonals.reshape({groups, -1}).narrow(1, 0, width).to(at::kDouble).flatten();
  }

  // (Σ x_i)² ≤ rows Σ x_i²
  void check_mean(const std::string& name, const at::Tensor& stored, const std::string& of_squares) {
    if (!sums_.contains(of_squares)) return;
    const at::Tensor square = squares(of_squares);
    if (stored.numel() == 0 || !square.isfinite().all().item<bool>() || square.min().item<double>() < 0)
      return;  // is said of the squares
    const double rows = rows_of(name);
    const at::Tensor limit =
        (square + rows * kSmallest).sqrt().mul_(std::sqrt(rows) * (1 + options_.tolerance * kEpsilon));
    const at::Tensor sum = stored.to(at::kDouble).flatten();
    const at::Tensor excess = sum.abs() - limit;
    if (excess.max().item<double>() <= 0) return;
    const auto i = excess.argmax().item<int64_t>();
    found("'{}': {:g} at element {} is more than {:.0f} rows with the sum of squares {:g} allow", name,
          sum[i].item<double>(), i, rows, square[i].item<double>());
  }

  void check_shared_rows() {
    for (const KroneckerForm form : {KroneckerForm::kExpand, KroneckerForm::kReduce})
      for (const Layer& layer : header_.layers.layers) {
        if (!has_grams(header_.layers, layer)) continue;
        const std::string sum = sum_name("rows", form), owner = input_gram_owner(header_.layers, layer);
        const auto own = count(layer.name + "/" + sum), shared = count(owner + "/" + sum);
        if (own && shared && *own != *shared)
          found("'{}/{}' is {}, but '{}', which is fed the same tensor, has {}", layer.name, sum, *own, owner, *shared);
      }
  }

  const StatisticsHeader& header_;
  const TensorSource& sums_;
  const VerifyOptions& options_;
  std::vector<std::string> findings_;
};

}  // namespace

std::vector<std::string> verify_statistics(const Statistics& statistics, const VerifyOptions& options) {
  return Verifier(statistics, options).findings();
}

}  // namespace amalgam
