#pragma once

#include <vector>

#include "apps/recipe_rows.h"

namespace amalgam {

/// `init: <row>`, `inner: <row>` and `then: <row>` become what the row says, so that a method needs to know no rows.
/// @throws InputError where a row would start from itself, or from what is no single method
void inline_rows(std::vector<MergeRow>& rows);

/// What methods may be of which one goes on from the other's model.
/// @throws InputError
void check_stages(const MergeRow& row);

}  // namespace amalgam
