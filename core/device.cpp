#include "core/device.h"

#include <ATen/Parallel.h>

#include <fstream>
#include <thread>

#include "core/error.h"
#include "core/version.h"

#if AMALGAM_HAS_CUDA
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDACachingAllocator.h>
#endif

namespace amalgam {

at::Device parse_device(const std::string& text) {
  if (text == "cpu") return at::kCPU;
  const auto count = at::hasCUDA() ? at::getNumGPUs() : 0;
  if (text == "auto") return count > 0 ? at::Device(at::kCUDA, 0) : at::Device(at::kCPU);
  int64_t index = 0;
  if (text.starts_with("cuda:")) {
    const auto digits = text.substr(5);
    require_input(!digits.empty() && digits.size() < 4 && digits.find_first_not_of("0123456789") == std::string::npos,
                  "device '{}': expected cuda:<number>, for example cuda:0", text);
    index = std::stoll(digits);
  } else {
    require_input(text == "cuda", "device '{}' is unknown{}", text, suggestion(text, {"auto", "cpu", "cuda"}));
  }
  require_input(index < static_cast<int64_t>(count),
                "device '{}' is not there: this machine has {} CUDA device(s); use --device cpu or auto", text, count);
  return {at::kCUDA, static_cast<c10::DeviceIndex>(index)};
}

std::string device_of_process(const std::string& text, int local_rank) {
  const auto count = at::hasCUDA() ? static_cast<int>(at::getNumGPUs()) : 0;
  if (count == 0 || (text != "auto" && text != "cuda")) return text;
  return fmt::format("cuda:{}", local_rank % count);
}

std::string describe(at::Device device) {
#if AMALGAM_HAS_CUDA
  if (device.is_cuda()) return at::cuda::getDeviceProperties(device.index())->name;
#endif
  if (device.is_cuda()) return device.str();
  const int threads = at::get_num_threads();
  return fmt::format("CPU, {} thread{}", threads, threads == 1 ? "" : "s");
}

void configure_numerics(int64_t threads) {
  at::globalContext().setFloat32MatmulPrecision("highest");
  at::globalContext().setAllowTF32CuDNN(false);  // convolutions have a switch of their own
  const auto there = static_cast<int64_t>(std::max(1U, std::thread::hardware_concurrency()));
  at::set_num_threads(static_cast<int>(threads > 0 ? threads : there));
}

void reset_peak_memory([[maybe_unused]] at::Device device) {
  std::ofstream("/proc/self/clear_refs") << "5";  // resets VmHWM; where it is not allowed the peak is the process's
#if AMALGAM_HAS_CUDA
  if (device.is_cuda()) c10::cuda::CUDACachingAllocator::resetPeakStats(device.index());
#endif
}

PeakMemory peak_memory([[maybe_unused]] at::Device device) {
  PeakMemory peak;
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:")) peak.host = std::stoll(line.substr(6)) * 1024;
#if AMALGAM_HAS_CUDA
  if (device.is_cuda())
    peak.device = c10::cuda::CUDACachingAllocator::getDeviceStats(device.index()).allocated_bytes[0].peak;
#endif
  return peak;
}

}  // namespace amalgam
