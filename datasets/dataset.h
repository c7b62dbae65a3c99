#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/batch.h"
#include "datasets/data_files.h"
#include "datasets/data_spec.h"
#include "datasets/split.h"
#include "datasets/transforms.h"

namespace amalgam {

/// The examples of one split, numbered from 0. They become a model's inputs batch by batch.
class Dataset {
 public:
  virtual ~Dataset() = default;

  virtual int64_t size() const = 0;
  /// Number of labels: 1 + the largest one in any split's files, or as many as the spec keeps; 0 if targets are
  /// floating.
  virtual int64_t classes() const = 0;
  /// Whether transforms can be applied: input 0 is byte or floating [N, C, H, W].
  virtual bool holds_images() const = 0;
  /// The examples of these numbers, in this order; an example is the same in whatever batch it comes.
  virtual Batch get(const std::vector<int64_t>& ids) const = 0;
  /// SHA-256 over the stored content, which examples of it these are, their targets, and the transforms with what they
  /// draw from. It does not tell where the files lie. Made at the first call.
  virtual const std::string& digest() const = 0;

  /// Shape of one example of an input by position, as a batch holds it, without the first axis.
  /// @throws InputError if there is none
  std::vector<int64_t> input_shape(size_t input = 0) const;
};

/// Of one data section, in the order of the files.
///
/// Examples stay as they are stored (bytes in memory, or a mapped file) until a batch is asked for: byte images, uint8
/// [N, C, H, W], become float32 x / 255; then transforms are applied to input 0; everything else is handed on as it is.
/// The mask of rows that count is the data's own; where they have none, the input called `attention_mask` ([N, T], not
/// 0), else, of integer targets [N, T], those that are not negative. With `trim_padding` the last positions of a batch
/// that count in none of its examples are cut off from every tensor [N, T, …] of it: for models to which they are
/// padding.
class StoredDataset final : public Dataset {
 public:
  /// @param rows     which of `stored` these are, in the order of their numbers
  /// @param target   of all of `stored`: its own, or with other labels
  /// @param classes  see `classes()`
  /// @param masked   false: without a mask, all rows count
  StoredDataset(std::shared_ptr<const StoredExamples> stored, std::vector<int64_t> rows, at::Tensor target,
                TransformSequence transforms, int64_t classes, bool masked = true, bool trim_padding = false);

  int64_t size() const override { return static_cast<int64_t>(rows_.size()); }
  int64_t classes() const override { return classes_; }
  bool holds_images() const override;
  Batch get(const std::vector<int64_t>& ids) const override;
  const std::string& digest() const override;

 private:
  std::string make_digest() const;

  std::shared_ptr<const StoredExamples> stored_;
  std::vector<int64_t> rows_;  // of stored_, by number
  at::Tensor target_;          // of all rows
  TransformSequence transforms_;
  int64_t classes_ = 0;
  bool masked_ = true, trim_padding_ = false;
  mutable std::once_flag digest_made_;
  mutable std::string digest_;
};

/// Checks what the spec says and the headers of the files of these splits, without reading the content: to be done
/// before any heavy work.
/// @param where  path of the spec for messages: "tasks[0].data"
/// @throws InputError
void check_data(const DataSpec& spec, const std::vector<Split>& splits, const std::string& where);

/// Opens one split.
/// @param seed   draws the val examples where they are cut from train, and the noise
/// @param label  the task's name: two tasks on one root have noise of their own
/// @param files  what other data sets have read already; tasks on one root then share one copy in memory
/// @throws InputError if a file is missing, damaged or too short, if labels are no class labels, if no example is left
std::unique_ptr<Dataset> open_dataset(const DataSpec& spec, Split split, uint64_t seed, const std::string& label,
                                      DataFiles& files);
std::unique_ptr<Dataset> open_dataset(const DataSpec& spec, Split split, uint64_t seed, const std::string& label);

}  // namespace amalgam
