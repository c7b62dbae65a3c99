// One fuzzer: libFuzzer calls the entry that the build names (AMALGAM_FUZZ_ENTRY).
#include <cstddef>
#include <cstdint>

#include "fuzz/entries.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto entry = amalgam::fuzz::entries().at(AMALGAM_FUZZ_ENTRY);
  entry({reinterpret_cast<const char*>(data), size});
  return 0;
}
