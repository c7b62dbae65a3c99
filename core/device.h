#pragma once

#include <ATen/ATen.h>

#include <string>

namespace amalgam {

/// "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1".
/// @throws InputError for another text, or a device that is not there
at::Device parse_device(const std::string& text);

/// Of several processes on one machine each takes a GPU of its own, as far as there are some: "auto" and "cuda" become
/// "cuda:i" by the process's number on the machine. Other texts, and machines without a GPU, stay as they are.
std::string device_of_process(const std::string& text, int local_rank);

/// The card's name, or "CPU, n threads".
std::string describe(at::Device device);

/// Full float32 products: no TF32 (it costs a Gram matrix three digits), and `threads` threads (0: as many as there
/// are).
void configure_numerics(int64_t threads);

/// The most memory the process has held since `reset_peak_memory`, in bytes: on the host from the kernel's account, on
/// a GPU from LibTorch's allocator.
struct PeakMemory {
  int64_t host = 0, device = 0;
};
void reset_peak_memory(at::Device device);
PeakMemory peak_memory(at::Device device);

}  // namespace amalgam
