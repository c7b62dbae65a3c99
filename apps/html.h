#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace amalgam {

/// Text as HTML content or attribute value: & < > " ' become entities.
std::string escape_html(std::string_view text);

/// 0.8794 as "87.9", the unit left to the reader of the table; "–" where there is no figure.
std::string percent_text(const std::optional<double>& share);
/// A score with its unit: "87.9 %" of a share, else the number as it is, "12.345"; "–" where there is no figure.
std::string score_text(const std::optional<double>& value, bool share);
/// 12345 as "12,345".
std::string count_text(int64_t count);
/// 1 and "layer" as "1 layer", 2 as "2 layers".
std::string plural_text(int64_t count, const std::string& noun);
/// "a, b and c", with "and 4 more" after the first `most`; the names are escaped and set as code.
std::string name_list(const std::vector<std::string>& names, size_t most);

// The parts below take HTML, not text: whoever makes it escapes what goes in.

/// A part of the page with its heading; `id` is what the list of contents points at.
std::string html_section(const std::string& id, const std::string& heading, const std::string& body);
/// What stands where a part has nothing to show yet.
std::string html_missing(const std::string& why);
/// Folded away until asked for.
std::string html_details(const std::string& summary, const std::string& body);
/// Scrolls to the side within its own frame where the page is too narrow for it.
std::string html_scroll(const std::string& label, const std::string& body);
/// A chart with its caption above it.
std::string html_figure(const std::string& caption, const std::string& chart);
/// A digest that shows its beginning and copies whole; "–" where it is empty.
std::string html_digest(const std::string& hex);

/// A table whose first column names the rows.
class HtmlTable {
 public:
  /// @param caption  may be empty
  /// @param columns  headings; the first one is of the row names
  /// @param words    so many columns after the first hold words and are aligned to the left, the others numbers
  HtmlTable(const std::string& caption, const std::vector<std::string>& columns, size_t words = 0);

  /// @param cells  as many as there are columns
  void add(const std::vector<std::string>& cells, const std::string& row_class = "");
  std::string html() const;

 private:
  std::string text_;
  size_t words_;
};

}  // namespace amalgam
