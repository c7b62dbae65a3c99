#pragma once

#include <string>
#include <vector>

#include "core/error.h"
#include "core/progress.h"

namespace amalgam::test {

/// Asks to stop at one of its updates.
class InterruptingProgress final : public Progress {
 public:
  explicit InterruptingProgress(int64_t at) : left_(at) {}

  void begin(const std::string&, int64_t) override {}
  void update(int64_t, const std::string&) override {
    if (--left_ == 0) throw Interrupted();
  }
  void end(const std::string&) override {}
  void message(const std::string& text) override { messages.push_back(text); }

  std::vector<std::string> messages;

 private:
  int64_t left_;
};

}  // namespace amalgam::test
