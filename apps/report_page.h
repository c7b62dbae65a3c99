#pragma once

#include <string>

#include "apps/report_data.h"

namespace amalgam {

/// The whole page of a run, UTF-8.
std::string report_page(const RunRecord& run);

// Its parts, in the page's order; each is whole HTML and says what is missing where the run has not made it.
std::string headline(const RunRecord& run);              // report_headline.cpp
std::string scores_section(const RunRecord& run);        // report_results.cpp
std::string intervals(const RunRecord& run);             // report_intervals.cpp, a part of the scores; may be empty
std::string comparison_section(const RunRecord& run);    // report_results.cpp
std::string solves_section(const RunRecord& run);        // report_solves.cpp
std::string layers_section(const RunRecord& run);        // report_layers.cpp
std::string searches_section(const RunRecord& run);      // report_searches.cpp
std::string coefficient_searches(const RunRecord& run);  // report_coefficients.cpp, part of these; may be empty
std::string donors_section(const RunRecord& run);        // report_donors.cpp; empty where the recipe has no donors
std::string protocol_section(const RunRecord& run);      // report_protocol.cpp; empty where the recipe has no protocol
std::string change_section(const RunRecord& run);        // report_models.cpp
std::string training_section(const RunRecord& run);      // report_models.cpp
std::string cost_section(const RunRecord& run);          // report_making.cpp
std::string making_section(const RunRecord& run);        // report_making.cpp

}  // namespace amalgam
