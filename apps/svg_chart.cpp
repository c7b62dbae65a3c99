#include "apps/svg_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "apps/html.h"

namespace amalgam {
namespace {

constexpr double kCharacter = 6.6;   // mean width of a character at the charts' font size, pixels
constexpr size_t kMostPoints = 240;  // of a line: more than its pixels tell nobody anything

size_t length(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

/// At most `most` characters, the last one then an ellipsis.
std::string shortened(const std::string& text, size_t most) {
  if (length(text) <= most) return text;
  std::string head;
  size_t count = 0;
  for (const char c : text) {
    if ((c & 0xC0) != 0x80 && ++count == most) break;
    head += c;
  }
  return head + "…";
}

std::string open_svg(const std::string& title, const std::string& description, double width, double height) {
  return fmt::format(
      "<svg role=\"img\" viewBox=\"0 0 {0:.0f} {1:.0f}\" width=\"{0:.0f}\" "
      "height=\"{1:.0f}\">\n<title>{2}</title>\n<desc>{3}</desc>\n",
      width, height, escape_html(title), escape_html(description));
}

std::string svg_text(double x, double y, const std::string& style, const std::string& text) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"{}\">{}</text>\n", x, y, style, escape_html(text));
}

std::string svg_line(double x1, double y1, double x2, double y2, const std::string& style) {
  return fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" class=\"{}\"/>\n", x1, y1, x2, y2,
                     style);
}

/// Round numbers between two ends, about `count` of them.
std::vector<double> round_ticks(double low, double high, int count) {
  const double raw = (high - low) / count, power = std::pow(10.0, std::floor(std::log10(raw)));
  // Of 1, 2, 5 and 10 the nearest by ratio.
  const double lead = raw / power;
  const double step = power * (lead < std::sqrt(2) ? 1 : lead < std::sqrt(10) ? 2 : lead < std::sqrt(50) ? 5 : 10);
  std::vector<double> ticks;
  const auto last = static_cast<int64_t>(std::floor(high / step + 1e-9));
  for (auto i = static_cast<int64_t>(std::ceil(low / step - 1e-9)); i <= last; ++i)
    ticks.push_back(static_cast<double>(i) * step);
  return ticks;
}

std::vector<double> power_ticks(double low, double high, int count) {
  const double first = std::ceil(std::log10(low) - 1e-9), last = std::floor(std::log10(high) + 1e-9);
  const double step = std::max(1.0, std::ceil((last - first) / count));
  std::vector<double> ticks;
  for (double exponent = first; exponent <= last; exponent += step) ticks.push_back(std::pow(10.0, exponent));
  return ticks;
}

std::string superscript(int exponent) {
  static const char* const digits[] = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
  std::string text = exponent < 0 ? "⁻" : "";
  for (const char c : std::to_string(std::abs(exponent))) text += digits[c - '0'];
  return text;
}

std::string tick_label(double value, bool share) {
  return share ? fmt::format("{:.3g} %", 100 * value) : fmt::format("{:.4g}", value);
}

std::string y_label(const LineChart& chart, double value) {
  if (!chart.log_y) return tick_label(value, chart.shares);
  return "10" + superscript(static_cast<int>(std::lround(std::log10(value))));
}

/// A rectangle of the chart and the numbers at its ends.
struct Frame {
  double left, top, right, bottom;
  double x_low, x_high, y_low, y_high;
  bool log_y = false, log_x = false;

  double x(double value) const { return left + (right - left) * share(value, x_low, x_high, log_x); }
  double y(double value) const { return bottom - (bottom - top) * share(value, y_low, y_high, log_y); }
  bool holds(const std::pair<double, double>& point) const {
    return std::isfinite(point.first) && std::isfinite(point.second) && (!log_x || point.first > 0) &&
           (!log_y || point.second > 0);
  }

 private:
  static double share(double value, double low, double high, bool logarithmic) {
    const auto scale = [&](double v) { return logarithmic ? std::log10(v) : v; };
    return (scale(value) - scale(low)) / (scale(high) - scale(low));
  }
};

std::string draw_line(const Frame& frame, const Line& line, bool shares) {
  std::string points, dots;
  const size_t stride = 1 + line.points.size() / kMostPoints;
  for (size_t i = 0; i < line.points.size(); ++i) {
    const bool kept = i % stride == 0 || i + 1 == line.points.size();
    if (!kept || !frame.holds(line.points[i])) continue;
    const auto [x, y] = line.points[i];
    points += fmt::format("{:.1f},{:.1f} ", frame.x(x), std::clamp(frame.y(y), frame.top, frame.bottom));
    if (line.dots)
      dots +=
          fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" class=\"dot\"><title>{:.6g}: {}</title></circle>\n",
                      frame.x(x), frame.y(y), x, score_text(y, shares));
  }
  if (points.empty()) return "";
  points.pop_back();
  return fmt::format("<polyline points=\"{}\" class=\"{}\"><title>{}</title></polyline>\n", points, line.style,
                     escape_html(line.name)) +
         dots;
}

std::string draw_axes(const Frame& frame, const LineChart& chart) {
  std::string svg;
  const int rows = std::max(2, static_cast<int>((frame.bottom - frame.top) / 38));
  const auto y_ticks =
      chart.log_y ? power_ticks(chart.low, chart.high, rows) : round_ticks(chart.low, chart.high, rows);
  for (const double tick : y_ticks) {
    svg += svg_line(frame.left, frame.y(tick), frame.right, frame.y(tick), "grid");
    svg += svg_text(frame.left - 6, frame.y(tick) + 4, "end", y_label(chart, tick));
  }
  const int columns = std::max(2, static_cast<int>((frame.right - frame.left) / 80));
  for (const double tick :
       frame.log_x ? power_ticks(frame.x_low, frame.x_high, columns) : round_ticks(frame.x_low, frame.x_high, columns))
    svg += svg_text(frame.x(tick), frame.bottom + 16, "middle", fmt::format("{:.6g}", tick));
  svg += svg_line(frame.left, frame.bottom, frame.right, frame.bottom, "axis");
  return svg + svg_text((frame.left + frame.right) / 2, chart.height - 3, "middle", chart.x_label);
}

std::string draw_marked(const Frame& frame, const std::pair<double, double>& point, const std::string& label) {
  if (!frame.holds(point)) return "";
  const double x = frame.x(point.first), y = frame.y(point.second);
  // The label goes to the side that has room, above the point or, near the top, below it.
  const bool right = x > (frame.left + frame.right) / 2, below = y < frame.top + 16;
  return fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\" class=\"dot best\"/>\n", x, y) +
         svg_text(x + (right ? 4 : -4), y + (below ? 19 : -9), right ? "strong end" : "strong", label);
}

std::string draw_mark(Dot::Mark mark, double x, double y) {
  switch (mark) {
    case Dot::Mark::kTo:
      return fmt::format("<path d=\"M{:.1f} {:.1f} l5.5 5.5 l-5.5 5.5 l-5.5 -5.5 z\" class=\"dot hollow\"/>\n", x,
                         y - 5.5);
    case Dot::Mark::kFrom:
      return fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4.5\" class=\"dot hollow\"/>\n", x, y);
    case Dot::Mark::kBest:
      return fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"6\" class=\"dot best\"/>\n", x, y);
    case Dot::Mark::kPlain:
      break;
  }
  return fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4.5\" class=\"dot\"/>\n", x, y);
}

}  // namespace

std::optional<std::pair<double, double>> finite_range(const std::vector<double>& values) {
  std::optional<std::pair<double, double>> range;
  for (const double value : values) {
    if (!std::isfinite(value)) continue;
    if (!range) range.emplace(value, value);
    range->first = std::min(range->first, value);
    range->second = std::max(range->second, value);
  }
  return range;
}

std::string draw(const DotChart& chart) {
  constexpr double kWidth = 340, kRow = 22, kTop = 4, kFigures = 44;
  constexpr size_t kMostCharacters = 20;
  size_t longest = 4;
  for (const auto& row : chart.rows) longest = std::max(longest, std::min(kMostCharacters, length(row.label)));
  const double bottom = kTop + kRow * static_cast<double>(chart.rows.size());
  const Frame frame{8 + kCharacter * static_cast<double>(longest) + 8,
                    kTop,
                    kWidth - kFigures - 8,
                    bottom,
                    chart.low,
                    chart.high,
                    0,
                    1};

  std::string svg = open_svg(chart.title, chart.description, kWidth, bottom + 22);
  for (const double tick : round_ticks(chart.low, chart.high, 4)) {
    svg += svg_line(frame.x(tick), kTop, frame.x(tick), bottom, "grid");
    svg += svg_text(frame.x(tick), bottom + 16, "middle", tick_label(tick, chart.shares));
  }
  std::optional<double> from;
  for (const auto& row : chart.rows)
    if (row.mark == Dot::Mark::kFrom && row.value && std::isfinite(*row.value) && !from) from = row.value;
  if (from) svg += svg_line(frame.x(*from), kTop, frame.x(*from), bottom, "guide");
  for (size_t i = 0; i < chart.rows.size(); ++i) {
    const auto& row = chart.rows[i];
    const double y = kTop + kRow * (static_cast<double>(i) + 0.5);
    const bool best = row.mark == Dot::Mark::kBest;
    svg += fmt::format("<g><title>{}: {}</title>\n", escape_html(row.label), score_text(row.value, chart.shares));
    svg += svg_text(frame.left - 12, y + 4, best ? "strong end" : "end", shortened(row.label, kMostCharacters));
    if (row.value && std::isfinite(*row.value)) {
      const double x = frame.x(*row.value);
      if (from) svg += svg_line(frame.x(*from), y, x, y, best ? "stem best" : "stem");
      svg += draw_mark(row.mark, x, y);
    }
    const auto figure = chart.shares ? percent_text(row.value) : score_text(row.value, false);
    svg += svg_text(kWidth - 4, y + 4, best ? "strong end" : "end", figure) + "</g>\n";
  }
  return svg + "</svg>\n";
}

std::string draw(const LineChart& chart) {
  double x_low = 0, x_high = 1;
  bool any = false;
  for (const auto& line : chart.lines)
    for (const auto& point : line.points) {
      if (chart.log_x && !(point.first > 0)) continue;
      x_low = any ? std::min(x_low, point.first) : point.first;
      x_high = any ? std::max(x_high, point.first) : point.first;
      any = true;
    }
  if (x_high <= x_low) x_high = x_low + 1;
  const Frame frame{46,     12,        chart.width - 14, chart.height - 36, x_low,
                    x_high, chart.low, chart.high,       chart.log_y,       chart.log_x};
  std::string svg = open_svg(chart.title, chart.description, chart.width, chart.height) + draw_axes(frame, chart);
  for (const auto& line : chart.lines) svg += draw_line(frame, line, chart.shares);
  if (chart.limit && *chart.limit >= chart.low && *chart.limit <= chart.high)
    svg += svg_line(frame.left, frame.y(*chart.limit), frame.right, frame.y(*chart.limit), "limit");
  if (chart.marked) svg += draw_marked(frame, *chart.marked, chart.marked_label);
  return svg + "</svg>\n";
}

std::string draw(const HeatMap& map) {
  constexpr int kColours = 7;
  constexpr double kRow = 22, kTop = 4, kLegend = 14, kNatural = 1000, kLean = 64;
  std::vector<double> positive;
  for (const auto& row : map.values)
    for (const double value : row)
      if (value > 0) positive.push_back(value);
  const auto range = finite_range(positive).value_or(std::pair{1.0, 1.0});
  const double low = std::log(range.first), span = std::max(std::log(range.second) - low, 1e-12);
  const auto colour = [&](double value) {
    return value > 0 ? std::clamp(static_cast<int>(kColours * (std::log(value) - low) / span), 0, kColours - 1) : 0;
  };

  size_t longest = 4;
  for (const auto& row : map.rows) longest = std::max(longest, length(row));
  const double left = 12 + kCharacter * static_cast<double>(std::min<size_t>(longest, 20));
  const double cell = std::clamp((kNatural - left) / static_cast<double>(map.columns.size()), 4.0, 40.0);
  const double bottom = kTop + kRow * static_cast<double>(map.rows.size());
  const double width = std::max(left + cell * static_cast<double>(map.columns.size()) + kLean, 340.0),
               height = bottom + 112;

  std::string svg = open_svg(map.title, map.description, width, height);
  for (size_t r = 0; r < map.rows.size(); ++r) {
    const double y = kTop + kRow * static_cast<double>(r);
    svg += svg_text(left - 8, y + kRow / 2 + 4, "end", shortened(map.rows[r], 20));
    for (size_t c = 0; c < map.columns.size(); ++c) {
      const double value = map.values[r][c];
      if (!std::isfinite(value)) continue;
      svg += fmt::format(
          "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" class=\"heat{}\"><title>{}, {}: "
          "{:.3g}</title></rect>\n",
          left + cell * static_cast<double>(c), y, cell - (cell > 6 ? 1 : 0), kRow - 1, colour(value),
          escape_html(map.rows[r]), escape_html(map.columns[c]), value);
    }
  }
  double free_from = 0;  // labels lean, so they need room to the side only as high as their letters
  for (size_t c = 0; c < map.groups.size(); ++c) {
    if (c > 0 && map.groups[c] == map.groups[c - 1]) continue;
    const double x = left + cell * static_cast<double>(c);
    svg += svg_line(x, bottom + 1, x, bottom + 7, "axis");
    if (x < free_from) continue;
    free_from = x + 19;
    svg += fmt::format("<text transform=\"translate({:.1f} {:.1f}) rotate(40)\">{}</text>\n", x + 2, bottom + 16,
                       escape_html(shortened(map.groups[c], 16)));
  }
  const double legend = height - kLegend - 2;
  svg += svg_text(left, legend + kLegend - 3, "", fmt::format("{:.2g}", range.first));
  for (int i = 0; i < kColours; ++i)
    svg += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"22\" height=\"{:.1f}\" class=\"heat{}\"/>\n",
                       left + 46 + 23 * i, legend, kLegend, i);
  svg += svg_text(left + 46 + 23 * kColours + 8, legend + kLegend - 3, "",
                  fmt::format("{:.2g}, steps of the logarithm", range.second));
  return svg + "</svg>\n";
}

}  // namespace amalgam
