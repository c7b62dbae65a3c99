#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/batch.h"
#include "datasets/dataset.h"
#include "datasets/transforms.h"

namespace amalgam {

struct LoaderOptions {
  int64_t batch = 64;
  /// Examples [first, first + examples) of the split, as many of them as there are; without `examples` all from `first`
  /// on.
  int64_t first = 0;
  std::optional<int64_t> examples = std::nullopt;
  bool shuffle = false;  ///< a new order each pass, else the same in each
  /// Without `shuffle`: `first` and `examples` count along one order of the whole split that is drawn by seed and
  /// label, so that some examples stand for all even where the files are sorted by class. Else they count along the
  /// files.
  bool drawn = false;
  bool drop_last = false;  ///< leave out a last batch that is not full
  /// Of the batches of a pass only each `parts`-th, from the `part`-th on: batch j belongs to part j % parts. All parts
  /// go in one order, so that together they are the pass of one loader, whatever the other options; a part may have one
  /// batch less than another, or none.
  int64_t part = 0, parts = 1;
  uint64_t seed = 0;
  std::string label =
      {};  ///< what is drawn for: loaders of one seed and label go in the same orders, with the same draws
};

/// Goes through a data set in batches.
class Loader final : public BatchSource {
 public:
  /// @param dataset  must outlive the loader
  /// @param augment  applied to input 0 after the data set's own transforms, drawn anew each pass, from streams of
  ///                 `seed` and `label`
  /// @throws InputError if `drop_last` would leave nothing, or if there is something to augment but no images
  Loader(const Dataset& dataset, LoaderOptions options, TransformSequence augment = {});

  bool next(Batch& batch) override;
  /// Starts the next pass: another order where it shuffles, other draws where it augments.
  void reset() override;
  /// Of the whole pass, over all parts.
  int64_t examples() const override { return examples_; }
  /// Likewise: what the batches of all parts add up to.
  int64_t batches() const { return batches_; }

 private:
  void draw_order();

  const Dataset& dataset_;
  LoaderOptions options_;
  TransformSequence augment_;
  std::vector<int64_t> order_;
  int64_t examples_ = 0, batches_ = 0;  // of a pass, over all parts
  int64_t next_batch_ = 0;              // counted over all parts
  int64_t pass_ = 0;
};

}  // namespace amalgam
