#pragma once

#include <string>

#include "stats/statistics.h"

namespace amalgam {

/// What a file of statistics holds, as a person reads it: the header, the bytes of each kind, the layers with their
/// rows, and what was not observed.
std::string describe_statistics(const Statistics& statistics);

}  // namespace amalgam
