#include "models/adapter.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/low_rank.h"
#include "core/patterns.h"
#include "core/random.h"

namespace amalgam {
namespace {

void check_target(const AdapterSpec& spec, const std::string& name, const TensorInfo& info, const std::string& where) {
  require_input(info.shape.size() == 2 && c10::isFloatingType(info.dtype),
                "{}.targets: '{}' is {}, and a low-rank adapter is of weights of two axes, [out, in]; name linear "
                "layers' weights, for example \"*query.weight\"",
                where, name, describe(info));
  const int64_t most = std::min(info.shape[0], info.shape[1]);
  require_input(spec.rank <= most, "{}.rank: {} is above the smaller side of '{}', {}; take a lower rank", where,
                spec.rank, name, describe(info));
}

}  // namespace

double AdapterSpec::scale() const {
  const auto r = static_cast<double>(rank);
  return alpha / (rslora ? std::sqrt(r) : r);
}

void AdapterSpec::declare(OptionSet& set) {
  set.choice("kind", kind, {"none", "lora"}, "lora: factors of the targets are trained, and nothing else of the body");
  set.integer("rank", rank, {1, 1e6}, "of the factors");
  set.real("alpha", alpha, {0, OptionSet::kInfinity}, "the product of the factors counts alpha / rank times");
  set.flag("rslora", rslora, "alpha / √rank in place of alpha / rank");
  set.texts("targets", targets, "name patterns of weights of linear layers");
}

std::vector<std::string> adapter_targets(const AdapterSpec& spec, const std::vector<std::string>& names,
                                         const std::map<std::string, TensorInfo>& infos, const std::string& where) {
  require_input(!spec.targets.empty(),
                "{}.targets: an adapter needs the weights that it changes, for example [\"*query.weight\", "
                "\"*value.weight\"]",
                where);
  require_matches(where + ".targets", spec.targets, names);
  std::vector<std::string> targets;
  for (const std::string& name : names) {
    if (!matches_any(spec.targets, name)) continue;
    check_target(spec, name, infos.at(name), where);
    targets.push_back(name);
  }
  return targets;
}

void check_target_layers(const std::vector<std::string>& targets, const LayerTable& layers,
                         const std::vector<std::string>& unobserved, const std::string& where) {
  for (const std::string& target : targets) {
    bool known = false;
    for (const Layer& layer : layers.layers) {
      if (layer.weight != target) continue;
      known = true;
      require_input(layer.kind == LayerKind::kLinear,
                    "{}.targets: '{}' is the weight of a layer of the kind {}, and an "
                    "adapter is of linear layers; leave it out",
                    where, target, name_of(layer.kind));
      require_input(!layer.transposed,
                    "{}.targets: '{}' is stored [in, out], and the factors of an adapter are of a weight [out, in]; "
                    "leave it out, or export the model with torch.nn.Linear in its place",
                    where, target);
    }
    const auto reason =
        std::ranges::find_if(unobserved, [&](const std::string& text) { return text.starts_with(target + ": "); });
    require_input(known, "{}.targets: '{}' is not seen as the weight of a linear layer ({}); leave it out", where,
                  target, reason == unobserved.end() ? "no layer has it" : reason->substr(target.size() + 2));
  }
}

LowRankAdapter::LowRankAdapter(const ModelRunner& model, const AdapterSpec& spec,
                               const std::vector<std::string>& targets, uint64_t seed)
    : scale_(spec.scale()), targets_(targets) {
  const NamedTensors parameters = model.parameters();
  for (const std::string& name : targets_) {
    const at::Tensor& weight = weights_.emplace_back(parameters.at(name));
    bases_.push_back(weight.detach().clone());
    const auto options = weight.options().dtype(weight.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
    auto generator = RandomStream(seed, "adapter/" + name).generator();
    const double bound = 1 / std::sqrt(static_cast<double>(weight.size(1)));
    // Drawn on the CPU: the same on every device.
    const at::Tensor drawn = at::empty({spec.rank, weight.size(1)}, options.device(at::kCPU).requires_grad(false));
    down_.push_back(drawn.uniform_(-bound, bound, generator).to(weight.device()));
    up_.push_back(at::zeros({weight.size(0), spec.rank}, options.requires_grad(false)));
  }
}

std::vector<at::Tensor> LowRankAdapter::factors() const {
  std::vector<at::Tensor> all;
  for (size_t i = 0; i < down_.size(); ++i) all.insert(all.end(), {down_[i], up_[i]});
  return all;
}

void LowRankAdapter::fold() const {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < weights_.size(); ++i)
    weights_[i].copy_(at::addmm(bases_[i].to(down_[i].scalar_type()), up_[i], down_[i], 1, scale_));
}

void LowRankAdapter::take_gradients() {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < weights_.size(); ++i) {
    at::Tensor& given = weights_[i].mutable_grad();
    if (!given.defined()) continue;  // the weight had no part in this loss
    const at::Tensor gradient = given.to(down_[i].scalar_type());
    up_[i].mutable_grad() = gradient.mm(down_[i].t()).mul_(scale_);
    down_[i].mutable_grad() = up_[i].t().mm(gradient).mul_(scale_);
    given.reset();
  }
}

NamedTensors LowRankAdapter::values() const {
  NamedTensors values;
  for (size_t i = 0; i < targets_.size(); ++i) {
    values[down_name(targets_[i])] = down_[i].detach().clone();
    values[up_name(targets_[i])] = up_[i].detach().clone();
  }
  return values;
}

void LowRankAdapter::set(const NamedTensors& values) {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < targets_.size(); ++i) {
    down_[i].copy_(values.at(down_name(targets_[i])));
    up_[i].copy_(values.at(up_name(targets_[i])));
  }
}

}  // namespace amalgam
