#include "models/batch_norm_reset.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <vector>

#include "core/error.h"

namespace amalgam {

namespace {

std::string name_of(const at::Tensor& buffer, const NamedTensors& buffers) {
  for (const auto& [name, tensor] : buffers)
    if (tensor.is_same(buffer) || tensor.const_data_ptr() == buffer.const_data_ptr()) return name;
  return {};
}

/// The model's buffers are put back at the end of this scope.
class KeptBuffers {
 public:
  explicit KeptBuffers(ModelRunner& model) : model_(model), values_(model.buffers()) {
    for (auto& [name, tensor] : values_) tensor = tensor.clone();
  }
  ~KeptBuffers() { model_.set(values_); }
  KeptBuffers(const KeptBuffers&) = delete;
  KeptBuffers& operator=(const KeptBuffers&) = delete;

 private:
  ModelRunner& model_;
  NamedTensors values_;
};

/// Of which there is no variance.
bool has_single_values(const std::vector<BatchMoments>& norms) {
  return std::ranges::any_of(norms, [](const BatchMoments& moments) { return moments.values < 2; });
}

}  // namespace

void BatchNormReset::add(ModelRunner& model, BatchSource& source, Progress& progress) {
  const at::NoGradGuard no_grad;
  model.set_training(false);
  const KeptBuffers kept(model);
  TapSession session(model.parameters(), {}, {.build_graph = false, .batch_norms_by_batch = true});
  const NamedTensors buffers = model.buffers();
  source.reset();
  progress.begin("reset batch norms", source.examples());
  int64_t done = 0, batches = 0, left_out = 0;
  for (Batch batch; source.next(batch);) {
    const Batch here = batch.to(model.device());
    session.run([&] { return model.forward(here); });
    const auto& norms = session.batch_norms();
    require_input(!norms.empty(), "the model has no batch norm that keeps means and variances");
    ++batches;
    if (has_single_values(norms)) {
      ++left_out;
    } else {
      for (const BatchMoments& moments : norms) add(moments, buffers, batch.count);
    }
    progress.update(done += batch.count);
  }
  progress.end();
  require_input(left_out == 0 || left_out < batches,
                "each batch gives some batch norm a single value of each channel, which has no variance; give batches "
                "of several examples (`evaluate.batch`)");
  if (left_out > 0)
    progress.message(fmt::format(
        "{} of {} batches are left out: some batch norm sees a single value of each channel there", left_out, batches));
}

/// Adds the moments of one call.
void BatchNormReset::add(const BatchMoments& moments, const NamedTensors& buffers, int64_t examples) {
  const std::string mean = name_of(moments.kept_mean, buffers), variance = name_of(moments.kept_variance, buffers);
  require_input(
      !mean.empty() && !variance.empty(),
      "a batch norm keeps its mean and variance in tensors that are no buffers of the model, so they cannot be "
      "estimated anew");
  Moments& all = moments_[{mean, variance}];
  const at::Tensor m = moments.mean.to(at::kDouble).cpu(), v = moments.variance.to(at::kDouble).cpu();
  all.dtype = moments.mean.scalar_type();
  if (all.examples == 0) {
    all.mean = m.clone();
    all.variance = v.clone();
  } else {
    const double share = static_cast<double>(examples) / static_cast<double>(all.examples + examples);
    const at::Tensor apart = m - all.mean;
    all.variance = all.variance * (1 - share) + v * share + apart.square() * (share * (1 - share));
    all.mean = all.mean + apart * share;
  }
  all.examples += examples;
}

NamedTensors BatchNormReset::buffers() const {
  NamedTensors values;
  for (const auto& [names, all] : moments_) {
    values[names.first] = all.mean.to(all.dtype);
    values[names.second] = all.variance.to(all.dtype);
  }
  return values;
}

}  // namespace amalgam
