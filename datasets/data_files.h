#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>

#include "datasets/formats.h"

namespace amalgam {

/// What one file set holds, never changed: all data sets that are made of it share it.
class StoredExamples {
 public:
  explicit StoredExamples(Examples examples) : examples_(std::move(examples)) {}

  const Examples& get() const { return examples_; }
  /// SHA-256 over inputs, target and mask. Made at the first call, which reads all of a mapped file.
  const std::string& digest() const;

 private:
  const Examples examples_;
  mutable std::once_flag digest_made_;
  mutable std::string digest_;
};

/// Reads each file set once, however many tasks lie on it, and keeps it only as long as a data set needs it.
class DataFiles {
 public:
  /// @throws InputError as the format does
  std::shared_ptr<const StoredExamples> read(const DataFormat& format, const std::filesystem::path& root, Split split);

 private:
  std::map<std::tuple<std::string, std::filesystem::path, Split>, std::weak_ptr<const StoredExamples>> read_;
};

}  // namespace amalgam
