#pragma once

#include <map>
#include <string>

#include "core/safetensors.h"
#include "stats/statistics.h"

namespace amalgam {

/// The `__metadata__` of a statistics file: a key a field of the header, each value JSON, and "format" and "version"
/// beside them.
std::map<std::string, std::string> metadata_of(const StatisticsHeader& header);

/// What `metadata_of` wrote.
/// @throws InputError if the file is of something else or of another version, or a field is missing or makes no sense
StatisticsHeader header_of(const TensorFile& file);

}  // namespace amalgam
