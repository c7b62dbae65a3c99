#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace amalgam {

/// Charts as inline SVG. Colours and fonts come from the page's style by class, so that they follow its light and dark
/// theme. All texts are plain: the functions escape them.

/// One row of a dot chart. A value that is not there leaves the row empty.
struct Dot {
  enum class Mark {
    kPlain,
    kBest,
    kFrom,
    kTo
  };  ///< a dot, a strong dot, the two references: a hollow circle, a hollow diamond
  std::string label;
  std::optional<double> value;
  Mark mark = Mark::kPlain;
};

/// Rows of dots over one axis, each with its name and its figure beside it: needs no legend and holds any number of
/// rows. A stem leads from the first row marked `kFrom` to each dot.
struct DotChart {
  std::string title, description;
  std::vector<Dot> rows;
  double low = 0, high = 1;  ///< ends of the axis, in the values' units
  bool shares = true;        ///< labels are percent; else the numbers as they are
};
std::string draw(const DotChart& chart);

struct Line {
  std::string name;
  std::vector<std::pair<double, double>>
      points;                  ///< points that cannot be drawn (not finite, or not positive on a log axis) are left out
  std::string style = "line";  ///< classes: line, thin, bold, bad
  bool dots = false;           ///< a dot at each point, too
};

/// Lines over linear or logarithmic x and y.
struct LineChart {
  std::string title, description, x_label;
  double width = 340, height = 200;                 ///< in pixels at natural size
  double low = 0, high = 1;                         ///< of y
  bool log_y = false;                               ///< labels are powers of ten
  bool shares = true;                               ///< without `log_y`: labels are percent; else numbers as they are
  bool log_x = false;                               ///< points at 0 or below are left out
  std::vector<Line> lines;                          ///< later ones are drawn over earlier ones
  std::optional<std::pair<double, double>> marked;  ///< a point with a dot and a label
  std::string marked_label;
  std::optional<double> limit;  ///< a dashed horizontal line
};
std::string draw(const LineChart& chart);

/// Positive values as steps of one colour, equal steps of the logarithm.
struct HeatMap {
  std::string title, description;
  std::vector<std::string> rows, columns;
  std::vector<std::string> groups;          ///< of each column: neighbours of one group stand together under its name
  std::vector<std::vector<double>> values;  ///< [rows][columns]; NaN: nothing there
};
std::string draw(const HeatMap& map);

/// The smallest and the largest finite value, or nothing.
std::optional<std::pair<double, double>> finite_range(const std::vector<double>& values);

}  // namespace amalgam
