#include "solvers/search/stepwise_search.h"

#include <algorithm>
#include <chrono>

#include "core/digest.h"
#include "core/error.h"
#include "core/safetensors.h"

namespace amalgam {
namespace {

using Clock = std::chrono::steady_clock;

constexpr Clock::duration kKeepEvery = std::chrono::seconds(5);
constexpr int kWorkBySaving = 50;  // of the time between two, saving takes one part in so many
constexpr const char* kFormat = "amalgam search, unfinished";

/// The file of a search's state.
class StateFile {
 public:
  StateFile(const SearchWork& work, const std::string& identity)
      : identity_(digest_of(work.identity + "\n" + identity)) {
    if (!work.folder.empty()) path_ = work.folder / (identity_.substr(0, 16) + ".safetensors");
  }

  /// @return whether there was a state of this very search
  bool load(StepwiseSearch& search) const {
    if (path_.empty() || !std::filesystem::exists(path_)) return false;
    try {
      const SafetensorsFile file(path_);
      const auto& metadata = file.metadata();
      const auto format = metadata.find("format"), of = metadata.find("identity");
      if (format == metadata.end() || of == metadata.end()) return false;
      if (format->second != kFormat || of->second != identity_) return false;
      NamedTensors state;
      for (const auto& [name, info] : file.infos()) state[name] = file.get(name).clone();
      search.resume(state);
      return true;
    } catch (const InputError&) {
      return false;  // a damaged file only costs the search again
    }
  }

  void save(const StepwiseSearch& search) {
    if (path_.empty()) return;
    const Clock::time_point began = Clock::now();
    write_safetensors(path_, search.state(), {{"format", kFormat}, {"identity", identity_}});
    const Clock::time_point now = Clock::now();
    next_ = now + std::max(kKeepEvery, kWorkBySaving * (now - began));
  }
  void save_now_and_then(const StepwiseSearch& search) {
    if (Clock::now() >= next_) save(search);
  }

 private:
  std::string identity_;
  std::filesystem::path path_;
  Clock::time_point next_ = Clock::now() + kKeepEvery;
};

}  // namespace

at::Tensor kept_tensor(const NamedTensors& state, const std::string& name, const at::Tensor& like) {
  const auto found = state.find(name);
  require_input(found != state.end() && found->second.sizes() == like.sizes() &&
                    found->second.scalar_type() == like.scalar_type(),
                "the state of the search has no '{}' of this one's sizes", name);
  return found->second.to(like.device(), /*non_blocking=*/false, /*copy=*/true);
}

void run_search(StepwiseSearch& search, const SearchWork& work, const std::string& identity) {
  StateFile file(work, identity);
  if (file.load(search))
    work.progress.message(fmt::format("search: goes on after {} of {}", search.steps_done(), search.most_steps()));
  work.progress.begin("search", search.most_steps());
  const Checkpoint checkpoint = [&] { work.progress.update(search.steps_done(), search.note()); };
  try {
    for (checkpoint(); !search.is_done(); checkpoint()) {
      search.step(checkpoint);
      file.save_now_and_then(search);
    }
  } catch (const Interrupted&) {
    file.save(search);
    throw;
  }
  file.save(search);
  work.progress.end(search.note());
}

}  // namespace amalgam
