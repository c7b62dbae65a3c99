#include "apps/terminal.h"

#include <fmt/chrono.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <ctime>

#include "core/error.h"

namespace amalgam {
namespace {

volatile std::sig_atomic_t stop_signal = 0;

void on_signal(int signal) {
  stop_signal = signal;
  std::signal(signal, SIG_DFL);
}

constexpr int kBarWidth = 24;

/// Columns of a text on a terminal: UTF-8 continuation bytes take none.
size_t width_of(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string padded(const std::string& text, size_t width, bool left) {
  const std::string space(width - std::min(width, width_of(text)), ' ');
  return left ? text + space : space + text;
}

}  // namespace

void install_stop_handlers() {
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
}

Terminal::Terminal(bool quiet) : quiet_(quiet), bar_(!quiet && ::isatty(STDERR_FILENO) == 1) {}

Terminal::~Terminal() {
  if (open_) std::fputs("\n", stderr);
}

double Terminal::elapsed() const { return std::chrono::duration<double>(Clock::now() - began_).count(); }

void Terminal::begin(const std::string& what, int64_t total) {
  what_ = subject_.empty() ? what : what + " " + subject_;
  total_ = total;
  began_ = drawn_ = Clock::now();
  update(0, "");
}

void Terminal::update(int64_t done, const std::string& note) {
  if (stop_signal != 0) throw Interrupted();
  const auto now = Clock::now();
  const auto pause = bar_ ? std::chrono::milliseconds(100) : std::chrono::milliseconds(15'000);
  if (done > 0 && now - drawn_ < pause) return;
  drawn_ = now;
  draw(done, note);
}

void Terminal::draw(int64_t done, const std::string& note) {
  if (quiet_) return;
  const double share = total_ > 0 ? std::clamp(static_cast<double>(done) / static_cast<double>(total_), 0.0, 1.0) : 0.0;
  std::string left;
  if (done > 0 && share > 0 && share < 1) left = format_seconds(elapsed() * (1 - share) / share) + " left  ";
  if (bar_) {
    const auto filled = static_cast<size_t>(share * kBarWidth);
    std::fputs(fmt::format("\r\033[K{}  [{}{}] {:3.0f}%  {}{}", padded(what_, 28, true), std::string(filled, '#'),
                           std::string(kBarWidth - filled, '.'), 100 * share, left, note)
                   .c_str(),
               stderr);
    open_ = true;
  } else if (done > 0) {
    std::fputs(fmt::format("{}  {}/{}  {}{}\n", padded(what_, 28, true), done, total_, left, note).c_str(), stderr);
  }
  std::fflush(stderr);
}

void Terminal::end(const std::string& note) {
  line(fmt::format("{}  done in {}{}{}", padded(what_, 28, true), format_seconds(elapsed()), note.empty() ? "" : "  ",
                   note));
}

void Terminal::message(const std::string& text) { line(text); }

void Terminal::line(const std::string& text) {
  if (!quiet_) std::fputs(fmt::format("{}{}\n", open_ ? "\r\033[K" : "", text).c_str(), stderr);
  open_ = false;
  if (log_.is_open())
    log_ << fmt::format("{:%Y-%m-%dT%H:%M:%SZ} {}", fmt::gmtime(std::time(nullptr)), text) << std::endl;
}

void Terminal::log_to(const std::filesystem::path& path) {
  log_.open(path, std::ios::app);
  require_input(log_.good(), "cannot write {}", path.string());
}

std::string format_table(const std::vector<std::vector<std::string>>& rows, size_t left) {
  std::vector<size_t> widths;
  for (const auto& row : rows)
    for (size_t i = 0; i < row.size(); ++i) {
      if (widths.size() <= i) widths.push_back(0);
      widths[i] = std::max(widths[i], width_of(row[i]));
    }
  std::string table;
  for (size_t r = 0; r < rows.size(); ++r) {
    std::string text;
    for (size_t i = 0; i < rows[r].size(); ++i) text += (i == 0 ? "" : "  ") + padded(rows[r][i], widths[i], i < left);
    text.erase(text.find_last_not_of(' ') + 1);
    table += text + "\n";
    if (r == 0) {
      size_t total = 0;
      for (const size_t width : widths) total += width + 2;
      table += std::string(total > 2 ? total - 2 : 0, '-') + "\n";
    }
  }
  return table;
}

std::string format_seconds(double seconds) {
  if (seconds < 0.1) return fmt::format("{:.0f} ms", 1000 * seconds);
  if (seconds < 60) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<int64_t>(seconds + 0.5);
  if (whole < 3600) return fmt::format("{} min {} s", whole / 60, whole % 60);
  return fmt::format("{} h {} min", whole / 3600, whole % 3600 / 60);
}

std::string format_bytes(double bytes) {
  for (const char* unit : {"B", "kB", "MB", "GB"}) {
    if (bytes < 999.5) return fmt::format("{:.{}f} {}", bytes, bytes < 10 && unit[0] != 'B' ? 1 : 0, unit);
    bytes /= 1000;
  }
  return fmt::format("{:.1f} TB", bytes);
}

}  // namespace amalgam
