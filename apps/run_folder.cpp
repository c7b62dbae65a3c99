#include "apps/run_folder.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <sys/file.h>
#include <unistd.h>

#include <cctype>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <ctime>

#include "core/atomic_file.h"
#include "core/digest.h"
#include "core/error.h"
#include "core/sharded_safetensors.h"
#include "core/version.h"

namespace amalgam {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

int64_t modified(const fs::path& path) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(fs::last_write_time(path).time_since_epoch()).count();
}

/// Size, time and digest of each output, by its path within the run.
json outputs_json(const RunFolder& folder, const std::vector<fs::path>& outputs) {
  json result = json::object();
  for (const auto& output : outputs) {
    const auto path = stored_safetensors(output);
    result[fs::relative(output, folder.root()).string()] = {
        {"size", fs::file_size(path)}, {"modified", modified(path)}, {"sha256", digest_of_file(path)}};
  }
  return result;
}

/// Whether a file is what the record says: by size and time, or else by its digest.
bool unchanged(const fs::path& output, const json& record) {
  const auto path = stored_safetensors(output);
  std::error_code error;
  if (fs::file_size(path, error) != record.at("size").get<uintmax_t>() || error) return false;
  return modified(path) == record.at("modified").get<int64_t>() ||
         digest_of_file(path) == record.at("sha256").get<std::string>();
}

std::string step_name(const std::string& kind, const std::string& subject) { return kind + "-" + file_stem(subject); }

/// Says whether two runs of a step would do the same.
std::string step_key(const std::string& kind, const json& inputs) {
  return digest_of(json{{"kind", kind}, {"inputs", inputs}, {"version", AMALGAM_VERSION}}.dump());
}

}  // namespace

FolderLock::FolderLock(const fs::path& folder, const std::string& way_out) {
  std::error_code error;
  fs::create_directories(folder, error);
  require_input(!error, "cannot make the folder {}: {}; {}", folder.string(), error.message(), way_out);
  const auto path = folder / kFile;
  descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  require_input(descriptor_ >= 0, "cannot write in {}: {}; {}", folder.string(), std::strerror(errno), way_out);
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) == 0) return;
  ::close(descriptor_);
  throw InputError(fmt::format("another amalgam works in {}; wait for it, or {}", folder.string(), way_out));
}

FolderLock::~FolderLock() { ::close(descriptor_); }

std::string file_stem(const std::string& row) {
  std::string stem;
  for (const char c : row) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '+' || c == '-';
    if (plain) stem += c;
    if (!plain && !stem.empty() && stem.back() != '-') stem += '-';
  }
  while (!stem.empty() && stem.back() == '-') stem.pop_back();
  return stem.empty() || stem[0] == '.' ? "row" + stem : stem;
}

fs::path RunFolder::merged(const std::string& row, const std::string& ending) const {
  return root_ / "merged" / (file_stem(row) + ending);
}

fs::path RunFolder::predictions(const std::string& row, const std::string& task, const std::string& split) const {
  return root_ / "predictions" / file_stem(row) / (task + "." + split + ".safetensors");
}

json Steps::last(const std::string& kind, const std::string& subject) const {
  const auto path = folder_.step(step_name(kind, subject));
  if (!fs::exists(path)) return nullptr;
  const auto record = json::parse(read_file(path), nullptr, /*allow_exceptions=*/false);
  return record.is_object() ? record : json();
}

json Steps::finished(const std::string& kind, const std::string& subject, const json& inputs,
                     const std::vector<fs::path>& outputs) const {
  auto record = last(kind, subject);
  if (record.is_null()) return nullptr;
  try {
    if (record.at("key") != step_key(kind, inputs)) return nullptr;
    for (const auto& output : outputs)
      if (!unchanged(output, record.at("outputs").at(fs::relative(output, folder_.root()).string()))) return nullptr;
    return record;
  } catch (const json::exception&) {
    return nullptr;  // a damaged record only costs the step again
  }
}

json Steps::run(const std::string& kind, const std::string& subject, const json& inputs,
                const std::vector<fs::path>& outputs, const std::function<json()>& work) {
  if (auto record = finished(kind, subject, inputs, outputs); !record.is_null()) {
    terminal_.message(fmt::format("{} {}: finished before, unchanged", kind, subject));
    return record;
  }
  for (const auto& output : outputs) remove_unfinished(output);
  reset_peak_memory(device_);
  const auto began = std::chrono::steady_clock::now();
  json details = work();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  const auto peak = peak_memory(device_);
  const json record = {{"step", step_name(kind, subject)},
                       {"kind", kind},
                       {"subject", subject},
                       {"key", step_key(kind, inputs)},
                       {"inputs", inputs},
                       {"outputs", outputs_json(folder_, outputs)},
                       {"seconds", seconds},
                       {"peak_host_bytes", peak.host},
                       {"peak_device_bytes", peak.device},
                       {"device", describe(device_)},
                       {"version", AMALGAM_VERSION},
                       {"torch", AMALGAM_TORCH_VERSION},
                       {"finished", fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)))},
                       {"details", std::move(details)}};
  write_file(folder_.step(step_name(kind, subject)), record.dump(1) + "\n");
  return record;
}

}  // namespace amalgam
