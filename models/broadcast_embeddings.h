#pragma once

#include <ATen/ATen.h>
#include <ATen/core/function_schema.h>

#include <optional>
#include <vector>

#include "models/gradient_source.h"
#include "models/operator_call.h"

namespace amalgam {

/// Embeddings of indices that all examples share, such as those of positions: [1, T] or [T] indices, whose embeddings
/// are then added to an activation [N, T, d].
///
/// At the embedding itself the gradients of the examples are summed already; at the addition they are still apart. So
/// where the output of an embedding goes into one addition that repeats it, and nowhere else, the call stands for the
/// lookup of the repeated indices, and its output for the sum.
class BroadcastEmbeddings {
 public:
  void clear() { followed_.clear(); }

  /// Follows the output of a call.
  /// @param position  of the call among the calls of its run
  void follow(size_t position, const LayerCall& call, const at::Tensor& output);

  bool takes(c10::ArrayRef<c10::IValue> arguments) const;

  /// Notes an operator that has run.
  void note(const c10::FunctionSchema& schema, c10::ArrayRef<c10::IValue> arguments,
            c10::ArrayRef<c10::IValue> results);

  /// After a run, changes the calls that are as described, and where their gradients are found.
  void settle(std::vector<LayerCall>& calls, std::vector<GradientSource>& sources) const;

 private:
  /// What a call becomes.
  struct Repeated {
    at::Tensor indices, output;
    std::vector<int64_t> output_shape;
    GradientSource source;
  };
  struct Followed {
    size_t position;
    at::Tensor indices;  // [lead...]
    at::Tensor output;   // [lead..., d], detached; keeps its memory from being used again
    int64_t uses = 0;
    std::optional<Repeated> repeated;
  };

  static std::optional<Repeated> repeated_by(const Followed& followed, const at::Tensor& taken, const at::Tensor& sum);

  std::vector<Followed> followed_;
};

}  // namespace amalgam
