#pragma once

#include <string>
#include <vector>

#include "stats/statistics.h"

namespace amalgam {

/// A field of the header that two statistics have different values of, as a message can show them.
struct FieldDifference {
  std::string field;  ///< as the file's metadata calls it
  std::string a, b;   ///< digests by their first digits; of tables, what is first different in them
};

/// How far one sum of two statistics is apart.
struct SumDifference {
  std::string name;
  double largest = 0;   ///< max |a − b|
  double relative = 0;  ///< ‖a − b‖ / ‖b‖ (Frobenius), 0 where a = b; infinite where b = 0 and a ≠ 0
  std::string refusal;  ///< why the two were not compared: one lacks the sum, or its shape is another; empty where not

  /// Whether it was compared and `relative` is at most `tolerance`; never where it is not a number.
  bool within(double tolerance) const;
};

struct StatisticsDifference {
  std::vector<FieldDifference> fields;  ///< in the order of StatisticsHeader
  std::vector<SumDifference> sums;      ///< all that either has, by name

  /// No field differs, and every sum is within `tolerance`.
  bool within(double tolerance) const;
};

/// The fields that differ, but for `sums_digest`: that is of the sums.
std::vector<FieldDifference> header_differences(const StatisticsHeader& a, const StatisticsHeader& b);

/// Compares all fields, and the sums in float64 with one of each in memory at a time.
StatisticsDifference compare_statistics(const Statistics& a, const Statistics& b);

}  // namespace amalgam
