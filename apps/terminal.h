#pragma once

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "core/progress.h"

namespace amalgam {

/// From now on SIGINT and SIGTERM ask the program to stop; a second one ends it at once.
void install_stop_handlers();

/// Progress on standard error: a bar on a terminal, plain lines else; everything also goes to the run's log.
class Terminal final : public Progress {
 public:
  explicit Terminal(bool quiet);
  ~Terminal() override;

  void begin(const std::string& what, int64_t total) override;
  void update(int64_t done, const std::string& note) override;
  void end(const std::string& note) override;
  void message(const std::string& text) override;

  /// What the coming work is about, said after its name: "train left".
  void about(const std::string& subject) { subject_ = subject; }
  void log_to(const std::filesystem::path& path);

 private:
  using Clock = std::chrono::steady_clock;

  double elapsed() const;
  void draw(int64_t done, const std::string& note);
  void line(const std::string& text);

  bool quiet_, bar_;
  bool open_ = false;  // a bar stands on the current line
  std::string subject_, what_;
  int64_t total_ = 0;
  Clock::time_point began_, drawn_;
  std::ofstream log_;
};

/// Progress of a part of some work: the whole is at `done` of its steps all the while, but can be stopped within one.
class PartProgress final : public Progress {
 public:
  PartProgress(Progress& whole, int64_t done) : whole_(whole), done_(done) {}

  void begin(const std::string&, int64_t) override { whole_.update(done_, ""); }
  void update(int64_t, const std::string&) override { whole_.update(done_, ""); }
  void end(const std::string&) override {}
  void message(const std::string& text) override { whole_.message(text); }

 private:
  Progress& whole_;
  int64_t done_;
};

/// A table with a header, columns as wide as their widest cell.
/// @param left  so many columns are aligned to the left, the others to the right
std::string format_table(const std::vector<std::vector<std::string>>& rows, size_t left = 1);

/// "3.2 s", "4 min 10 s".
std::string format_seconds(double seconds);
/// "1.2 MB".
std::string format_bytes(double bytes);

}  // namespace amalgam
