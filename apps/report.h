#pragma once

#include "apps/run_folder.h"

namespace amalgam {

/// Draws `report.html` of a run from the files in its folder alone: one page that needs no network and no script, light
/// or dark as the reader's system is. What the run has not made yet, or what cannot be read, the page says.
/// @throws InputError if the folder is no run's, or if the page cannot be written
void write_report(const RunFolder& folder);

}  // namespace amalgam
