#pragma once

#include <cstdint>
#include <string>

namespace amalgam {

/// Where long work says how far it is, and where it learns that it is to stop. The library itself never prints.
class Progress {
 public:
  virtual ~Progress() = default;
  virtual void begin(const std::string& what, int64_t total) = 0;
  /// @throws Interrupted if someone asked the program to stop
  virtual void update(int64_t done, const std::string& note = {}) = 0;
  virtual void end(const std::string& note = {}) = 0;
  /// One line that is not progress: something that went differently than asked for.
  virtual void message(const std::string& text) = 0;
};

/// Says nothing and never stops.
class SilentProgress final : public Progress {
 public:
  void begin(const std::string&, int64_t) override {}
  void update(int64_t, const std::string&) override {}
  void end(const std::string&) override {}
  void message(const std::string&) override {}
};

}  // namespace amalgam
