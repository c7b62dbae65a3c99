#include "solvers/merge_share.h"

#include <c10/util/accumulate.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>

#include "solvers/layer_report_json.h"

namespace amalgam {
namespace {

const TensorInfo& info(const MergeInput& input, const std::string& name) {
  return input.experts.front().tensors->infos().at(name);
}

at::Tensor bytes_of(const std::string& text) {
  at::Tensor bytes = at::empty({static_cast<int64_t>(text.size())}, at::kByte);
  if (!text.empty()) std::memcpy(bytes.mutable_data_ptr(), text.data(), text.size());
  return bytes;
}

std::string text_of(const at::Tensor& bytes) {
  return {static_cast<const char*>(bytes.const_data_ptr()), static_cast<size_t>(bytes.numel())};
}

}  // namespace

double merge_cost(const MergeGroup& group, const MergeInput& input) {
  double cost = 0.0;
  for (const std::string& name : group.parameters)
    cost += static_cast<double>(c10::multiply_integers(info(input, name).shape));
  for (const LayerMatrix& layer : group.layers) {
    const auto rows = static_cast<double>(layer.rows()), columns = static_cast<double>(layer.columns());
    cost += static_cast<double>(layer.groups()) * rows * columns * (rows + columns);
  }
  return cost * static_cast<double>(input.experts.size());
}

std::vector<int> share_out(const std::vector<double>& costs, std::vector<double> busy) {
  TORCH_CHECK(!busy.empty(), "work is shared out among no processes");
  std::vector<size_t> order(costs.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return costs[a] > costs[b]; });
  std::vector<int> process(costs.size());
  for (const size_t piece : order) {
    const auto least = std::min_element(busy.begin(), busy.end());
    process[piece] = static_cast<int>(least - busy.begin());
    *least += costs[piece];
  }
  return process;
}

GroupResult settled(GroupResult result, const MergeGroup& group, const MergeInput& input) {
  const auto settle = [](at::Tensor& tensor, at::ScalarType dtype) {
    tensor = tensor.to(at::TensorOptions(at::kCPU).dtype(dtype)).contiguous();
  };
  for (const std::string& name : group.parameters) settle(result.merged.at(name), info(input, name).dtype);
  for (size_t i = 0; i < group.layers.size(); ++i) {
    const Layer& layer = group.layers[i].layer();
    const at::ScalarType dtype = info(input, layer.weight).dtype;
    const bool one_dtype = !group.layers[i].with_bias() || info(input, layer.bias).dtype == dtype;
    settle(result.matrices[i], one_dtype ? dtype : result.matrices[i].scalar_type());
  }
  return result;
}

GroupResult to_root(const GroupResult& result, const MergeGroup& group, const ProcessGroup& processes, int from) {
  const bool here = processes.rank() == from;
  GroupResult all;
  for (const std::string& name : group.parameters)
    all.merged[name] = processes.to_root(here ? result.merged.at(name) : at::Tensor(), from);
  for (size_t i = 0; i < group.layers.size(); ++i)
    all.matrices.push_back(processes.to_root(here ? result.matrices.at(i) : at::Tensor(), from));
  nlohmann::json reports = nlohmann::json::array();
  for (const LayerReport& report : result.reports) reports.push_back(to_json(report));
  const at::Tensor text = processes.to_root(here ? bytes_of(reports.dump()) : at::Tensor(), from);
  if (!processes.is_root()) return all;
  for (const auto& report : nlohmann::json::parse(text_of(text))) all.reports.push_back(layer_report_from(report));
  return all;
}

}  // namespace amalgam
