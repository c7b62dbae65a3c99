#include "core/device.h"

#include <gtest/gtest.h>

#include "expect_error.h"

namespace amalgam {
namespace {

using ::testing::HasSubstr;

TEST(Device, IsReadFromItsName) {
  EXPECT_EQ(parse_device("cpu"), at::Device(at::kCPU));
  EXPECT_THAT(input_error_of([] { parse_device("cuda:99"); }), HasSubstr("is not there"));
  EXPECT_THAT(input_error_of([] { parse_device("cuda:x"); }), HasSubstr("cuda:<number>"));
  EXPECT_THAT(input_error_of([] { parse_device("gpu0"); }), HasSubstr("auto, cpu, cuda"));
}

TEST(PeakMemory, SeesAnAllocation) {
  reset_peak_memory(at::kCPU);
  const auto before = peak_memory(at::kCPU).host;
  { const auto large = at::ones({64, 1024, 1024}, at::kByte); }
  EXPECT_GE(peak_memory(at::kCPU).host - before, 60 * 1024 * 1024);
}

}  // namespace
}  // namespace amalgam
