#include "apps/html.h"

#include <fmt/format.h>

#include <algorithm>

namespace amalgam {

std::string escape_html(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

std::string percent_text(const std::optional<double>& share) {
  return share ? fmt::format("{:.1f}", 100 * *share) : "–";
}

std::string score_text(const std::optional<double>& value, bool share) {
  if (!value) return "–";
  return share ? percent_text(value) + " %" : fmt::format("{:.5g}", *value);
}

std::string count_text(int64_t count) { return fmt::format("{}", fmt::group_digits(count)); }

std::string plural_text(int64_t count, const std::string& noun) {
  return fmt::format("{} {}{}", count_text(count), noun, count == 1 ? "" : "s");
}

std::string name_list(const std::vector<std::string>& names, size_t most) {
  std::string text;
  const size_t shown = std::min(names.size(), most);
  for (size_t i = 0; i < shown; ++i) {
    const bool last = i + 1 == names.size() && i > 0;
    text += fmt::format("{}<code>{}</code>", i == 0 ? "" : last ? " and " : ", ", escape_html(names[i]));
  }
  return shown == names.size() ? text : text + fmt::format(" and {} more", names.size() - shown);
}

std::string html_section(const std::string& id, const std::string& heading, const std::string& body) {
  return fmt::format(
      "<section id=\"{0}\" aria-labelledby=\"{0}-heading\">\n<h2 id=\"{0}-heading\">{1}</h2>\n{2}</section>\n", id,
      heading, body);
}

std::string html_missing(const std::string& why) { return fmt::format("<p class=\"missing\">{}</p>\n", why); }

std::string html_details(const std::string& summary, const std::string& body) {
  return fmt::format("<details>\n<summary>{}</summary>\n{}</details>\n", summary, body);
}

std::string html_scroll(const std::string& label, const std::string& body) {
  return fmt::format("<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{}\">\n{}</div>\n", label,
                     body);
}

std::string html_figure(const std::string& caption, const std::string& chart) {
  return fmt::format("<figure>\n<figcaption>{}</figcaption>\n{}</figure>\n", caption, chart);
}

std::string html_digest(const std::string& hex) {
  return hex.empty() ? "–" : fmt::format("<code class=\"digest\" title=\"{0}\">{0}</code>", escape_html(hex));
}

HtmlTable::HtmlTable(const std::string& caption, const std::vector<std::string>& columns, size_t words)
    : words_(words) {
  text_ = "<table>\n";
  if (!caption.empty()) text_ += fmt::format("<caption><span>{}</span></caption>\n", caption);
  text_ += "<thead><tr>";
  for (size_t i = 0; i < columns.size(); ++i)
    text_ += fmt::format("<th scope=\"col\"{}>{}</th>", i <= words_ ? " class=\"word\"" : "", columns[i]);
  text_ += "</tr></thead>\n<tbody>\n";
}

void HtmlTable::add(const std::vector<std::string>& cells, const std::string& row_class) {
  text_ += row_class.empty() ? "<tr>" : fmt::format("<tr class=\"{}\">", row_class);
  for (size_t i = 0; i < cells.size(); ++i) {
    if (i == 0) {
      text_ += fmt::format("<th scope=\"row\" class=\"word\">{}</th>", cells[i]);
    } else {
      text_ += fmt::format("<td{}>{}</td>", i <= words_ ? " class=\"word\"" : "", cells[i]);
    }
  }
  text_ += "</tr>\n";
}

std::string HtmlTable::html() const { return text_ + "</tbody>\n</table>\n"; }

}  // namespace amalgam
