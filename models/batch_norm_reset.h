#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "core/batch.h"
#include "core/progress.h"
#include "core/tensor_source.h"
#include "models/runner.h"
#include "models/tap_session.h"

namespace amalgam {

/// Estimates the running means and variances of a model's batch norms anew: a merged model's activations are not those
/// that the averages of its experts' buffers describe.
///
/// Every batch runs with its batch norms normalising by the batch's own moments, as in training, so that each layer
/// sees corrected predecessors; of batches b of n_b examples, with mean m_b and variance v_b of a channel (unbiased
/// over examples and positions),
///
///     m = Σ n_b m_b / Σ n_b,    v = Σ n_b (v_b + (m_b − m)²) / Σ n_b
///
/// So one batch gives exactly its moments. A batch norm that runs several times in one pass has moments of each call. A
/// batch of which some batch norm sees a single value of each channel has no variance, and is left out. Scripted and
/// traced models alike, also where tracing fixed evaluation mode.
/// @source Izmailov et al. 2018 (averaged weights need it); Jordan et al. 2023, REPAIR, section 3
class BatchNormReset {
 public:
  /// Adds the batches of a source, from its start. Several models, of which only private parameters differ, may share
  /// one reset. The model's parameters and buffers are left as they were.
  /// @throws InputError if the model has no batch norm that keeps moments, or if every batch is left out
  void add(ModelRunner& model, BatchSource& source, Progress& progress);

  /// The new buffers, by name, in the model's dtype.
  NamedTensors buffers() const;

 private:
  struct Moments {
    int64_t examples = 0;
    at::Tensor mean, variance;  // float64 [C], of all batches so far
    at::ScalarType dtype = at::kFloat;
  };
  void add(const BatchMoments& moments, const NamedTensors& buffers, int64_t examples);

  std::map<std::pair<std::string, std::string>, Moments> moments_;  // by the names of the two buffers
};

}  // namespace amalgam
