#pragma once

namespace amalgam {

/// The page's CSS: calm colours that keep a contrast of 4.5 for text in both themes and differ in lightness, not in hue
/// alone.
const char* report_style();

}  // namespace amalgam
