// write_seeds FOLDER: writes the seeds to FOLDER/<entry>/seed.<number>.
#include <fmt/format.h>

#include "core/atomic_file.h"
#include "fuzz/entries.h"

int main(int count, char** arguments) {
  if (count != 2) {
    fmt::print(stderr, "usage: write_seeds FOLDER\n");
    return 2;
  }
  int number = 0;
  for (const auto& [entry, bytes] : amalgam::fuzz::seeds())
    amalgam::write_file(fmt::format("{}/{}/seed.{}", arguments[1], entry, ++number), bytes);
}
