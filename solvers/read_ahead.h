#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/tensor_source.h"

namespace amalgam {

/// Has tensors read from the disk, by a thread of its own, while those before them are worked on. A request to read
/// ahead waits where the disk has enough to do, so that it cannot be made by whoever works.
class ReadAhead {
 public:
  /// @param sources  must outlive this; `prefetch` of theirs may be called by any thread
  /// @param order    names in the order in which they will be read, once or several times
  /// @param bytes    how far ahead, over all sources; one tensor at least
  ReadAhead(std::vector<const TensorSource*> sources, std::vector<std::string> order, double bytes);
  ~ReadAhead();
  ReadAhead(const ReadAhead&) = delete;
  ReadAhead& operator=(const ReadAhead&) = delete;

  /// This one is read now. Names that are not in the order are left out.
  void reached(const std::string& name);

 private:
  void run();

  const std::vector<const TensorSource*> sources_;
  const std::vector<std::string> order_;
  const double bytes_;
  std::map<std::string, size_t> position_;
  std::vector<double> before_;  // bytes of all sources before each position
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t at_ = 0, next_ = 0;  // what is read, and what is to be read ahead next
  bool reading_ = false, ended_ = false;
  std::thread thread_;  // last: it uses all of this
};

}  // namespace amalgam
