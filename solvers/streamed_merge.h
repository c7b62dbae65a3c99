#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/progress.h"
#include "solvers/grouping.h"
#include "solvers/merge.h"
#include "solvers/observed_tensors.h"
#include "solvers/plan_reads.h"
#include "solvers/read_ahead.h"

namespace amalgam {

/// A merge as a source of tensors: each is merged when it is asked for, and nothing is kept. So a writer that asks for
/// one after the other merges models that are larger than memory: what is held is one parameter of each expert, and
/// what the method makes of it; what comes next is read from the disk meanwhile. Values, dtypes and what becomes of
/// parameters that the method leaves aside are those of `merge` (solvers/merge.h), bit by bit.
///
/// For methods that merge parameter by parameter; those that need layers, statistics, adapters or the models are
/// refused (`why_not_streamed`).
class StreamedMerge final : public TensorSource {
 public:
  /// Checks the method's requirements and the experts, and plans: methods that look at the whole model first read it
  /// here, and `progress` counts that, in megabytes of all experts, once for each time that they are read. After that
  /// it counts the megabytes that were merged; who asks for them calls its `end`.
  /// @param input  must outlive this, with all that it borrows, as `method` and `progress`
  /// @throws InputError as `merge`
  /// @throws Interrupted from `progress`
  StreamedMerge(MergeMethod& method, const MergeInput& input, Progress& progress);
  ~StreamedMerge() override;

  /// Of the shared parameters and buffers.
  const std::map<std::string, TensorInfo>& infos() const override { return infos_; }
  /// Merges it, on the CPU, in the experts' dtype.
  /// @throws InputError if a value is not finite in that dtype
  /// @throws Interrupted from the progress
  at::Tensor get(const std::string& name) const override;

  /// What the merges so far had to say, in the order in which they were asked for; all that the method leaves aside.
  const MergeReport& report() const { return report_; }

 private:
  void read_ahead();
  void plan();
  at::Tensor merged(const std::string& name) const;

  MergeMethod& method_;
  Progress& progress_;
  std::unique_ptr<ReadAhead> ahead_;
  std::vector<std::unique_ptr<ObservedTensors>> observed_;
  std::unique_ptr<PlanReads> reads_;
  MergeInput input_;  // whose reads are observed
  std::map<std::string, TensorInfo> infos_;
  std::set<std::string> by_method_;
  mutable MergeReport report_;
  mutable double done_ = 0;  // bytes
};

/// Why a method cannot be merged in a stream: the statistics, adapters, models or layers that it needs, in words; empty
/// if it can.
std::string why_not_streamed(const MergeMethod& method);

}  // namespace amalgam
