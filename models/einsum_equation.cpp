#include "models/einsum_equation.h"

#include <algorithm>
#include <map>

namespace amalgam {
namespace {

/// An axis: a letter, or kEllipsis + its distance from the last axis under the dots.
using Label = int64_t;
using Labels = std::vector<Label>;
constexpr Label kEllipsis = 1000;

int64_t letters_in(const std::string& term) {
  return static_cast<int64_t>(std::count_if(term.begin(), term.end(), [](char c) { return c != '.'; }));
}

/// @param under_dots  how many axes the dots stand for
Labels labels_of(const std::string& term, int64_t under_dots) {
  Labels labels;
  for (size_t i = 0; i < term.size(); ++i) {
    if (term[i] != '.') {
      labels.push_back(term[i]);
      continue;
    }
    for (int64_t k = under_dots; k > 0; --k) labels.push_back(kEllipsis + k - 1);
    i += 2;
  }
  return labels;
}

/// What einsum takes where there is no arrow: the dots, then the letters that stand once, in their order.
Labels implicit_output(const Labels& a, const Labels& b) {
  std::map<Label, int64_t> counts;
  for (const Labels* labels : {&a, &b})
    for (const Label label : *labels) ++counts[label];
  Labels output;
  for (auto entry = counts.rbegin(); entry != counts.rend(); ++entry)
    if (entry->first >= kEllipsis) output.push_back(entry->first);
  for (const auto& [label, count] : counts)
    if (label < kEllipsis && count == 1) output.push_back(label);
  return output;
}

bool has_repeats(Labels labels) {
  std::sort(labels.begin(), labels.end());
  return std::adjacent_find(labels.begin(), labels.end()) != labels.end();
}

/// Where a label stands; none where it does not.
std::optional<int64_t> axis_of(Label label, const Labels& labels) {
  const auto found = std::find(labels.begin(), labels.end(), label);
  if (found == labels.end()) return std::nullopt;
  return found - labels.begin();
}

struct Equation {
  Labels weight, input, output;
};

std::optional<Equation> parse(std::string text, const at::Tensor& weight, const at::Tensor& input, bool weight_first) {
  std::erase(text, ' ');
  const size_t arrow = text.find("->"), comma = text.find(',');
  if (comma == std::string::npos || (arrow != std::string::npos && arrow < comma)) return std::nullopt;
  const size_t end = std::min(arrow, text.size());
  const std::string first = text.substr(0, comma), second = text.substr(comma + 1, end - comma - 1);
  const std::string &of_weight = weight_first ? first : second, &of_input = weight_first ? second : first;
  if (of_weight.find('.') != std::string::npos || letters_in(of_weight) != weight.dim()) return std::nullopt;
  const int64_t under_dots = input.dim() - letters_in(of_input);
  Equation equation{labels_of(of_weight, 0), labels_of(of_input, under_dots), {}};
  equation.output = arrow == std::string::npos ? implicit_output(equation.weight, equation.input)
                                               : labels_of(text.substr(arrow + 2), under_dots);
  const bool fits = static_cast<int64_t>(equation.input.size()) == input.dim() && !has_repeats(equation.weight) &&
                    !has_repeats(equation.input);
  if (!fits) return std::nullopt;
  return equation;
}

}  // namespace

std::optional<ProductAxes> product_axes(const std::string& equation, const at::Tensor& weight, const at::Tensor& input,
                                        bool weight_first) {
  const auto parsed = parse(equation, weight, input, weight_first);
  if (!parsed) return std::nullopt;
  std::vector<int64_t> order(static_cast<size_t>(weight.dim()));
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int64_t>(i);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return weight.stride(a) > weight.stride(b); });

  ProductAxes axes;
  for (const int64_t axis : order) {
    const Label label = parsed->weight[static_cast<size_t>(axis)];
    const auto in_input = axis_of(label, parsed->input), in_output = axis_of(label, parsed->output);
    if (in_input.has_value() == in_output.has_value()) return std::nullopt;
    if (in_output) {
      axes.weight_units.push_back(axis);
      axes.output_units.push_back(*in_output);
      continue;
    }
    if (input.size(*in_input) != weight.size(axis)) return std::nullopt;
    axes.weight_sums.push_back(axis);
    axes.input_sums.push_back(*in_input);
  }
  for (const Label label : parsed->output) {
    if (axis_of(label, parsed->weight)) continue;
    const auto in_input = axis_of(label, parsed->input);
    if (!in_input) return std::nullopt;
    axes.input_lead.push_back(*in_input);
  }
  const bool all_stay = axes.input_lead.size() + axes.input_sums.size() == parsed->input.size();
  if (!all_stay || axes.weight_units.empty() || axes.weight_sums.empty()) return std::nullopt;
  return axes;
}

}  // namespace amalgam
