#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace amalgam {

/// Some examples, ready for a model.
struct Batch {
  std::vector<at::Tensor> inputs;                  ///< by position; the first axis is the example
  std::map<std::string, at::Tensor> named_inputs;  ///< by the name that the model's forward gives them; likewise
  at::Tensor target;  ///< int64 [N] (classes) or [N, T] (tokens; negative: ignored), or floating values
  at::Tensor mask;    ///< bool [N, T], rows that count; undefined where all do
  at::Tensor ids;     ///< int64 [N], on the CPU: the examples' numbers in their split, for seeded draws
  int64_t count = 0;  ///< N

  /// All but the ids moved to `device`.
  Batch to(at::Device device) const;
  /// The examples [begin, begin + examples): views of this batch's tensors.
  Batch narrow(int64_t begin, int64_t examples) const;
};

/// Yields the batches of one split, in an order that it fixes itself.
class BatchSource {
 public:
  virtual ~BatchSource() = default;
  /// False at the end; then `batch` is unchanged.
  virtual bool next(Batch& batch) = 0;
  /// Back to the first batch; a shuffling source draws its next order.
  virtual void reset() = 0;
  /// Examples in one pass.
  virtual int64_t examples() const = 0;
};

}  // namespace amalgam
