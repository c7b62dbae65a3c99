// The reader that docs/statistics.md shows reads what Statistics::save writes.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "core/atomic_file.h"
#include "stats/small_statistics.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

using namespace reference;

const std::string kPython = AMALGAM_SOURCE_DIR "/.deps/venv/bin/python";

std::string reader() {
  const std::string text = read_file(AMALGAM_SOURCE_DIR "/docs/statistics.md"), fence = "```python\n";
  const auto begin = text.find(fence);
  if (begin == std::string::npos) return "";
  return text.substr(begin + fence.size(), text.find("```\n", begin + fence.size()) - begin - fence.size());
}

/// The numbers that the reader gives for `expression`, after what it prints itself.
at::Tensor read_by_python(const TemporaryFolder& folder, const std::string& expression) {
  write_file(folder / "read.py", reader() + "\nfor x in np.ravel(" + expression + "): print(float(x).hex())\n");
  const std::string out = (folder / "out").string();
  const std::string command = kPython + " " + (folder / "read.py").string() + " " +
                              (folder / "left.safetensors").string() + " | sed -n '/0x/p' > " + out;
  EXPECT_EQ(std::system(command.c_str()), 0);
  std::vector<double> values;
  std::ifstream file(out);
  for (std::string line; std::getline(file, line);) values.push_back(std::strtod(line.c_str(), nullptr));
  return at::tensor(values, at::kDouble);
}

TEST(StatisticsDocument, ShowsAReaderThatAgreesWithOurs) {
  if (!std::filesystem::exists(kPython)) GTEST_SKIP() << "there is no " << kPython;
  const TemporaryFolder folder;
  const Statistics statistics = small_statistics(1, 8);
  statistics.save(folder / "left.safetensors");
  const auto& layers = statistics.header().layers.layers;
  for (size_t i = 0; i < layers.size(); ++i)
    EXPECT_TRUE(read_by_python(folder, "input_gram(layers[" + std::to_string(i) + "])")
                    .equal(statistics.input_gram(layers[i]).flatten()))
        << layers[i].name;
  for (const char* parameter : {"fc.weight", "fc.bias", "twin.weight"})
    EXPECT_TRUE(read_by_python(folder, std::string("squared_gradient('") + parameter + "')")
                    .equal(statistics.squared_gradient(parameter).flatten()))
        << parameter;
}

TEST(StatisticsDocument, ShowsAReaderThatKnowsGroupsAndBlocks) {
  if (!std::filesystem::exists(kPython)) GTEST_SKIP() << "there is no " << kPython;
  const TemporaryFolder folder;
  Layer conv = convolution(2, 4, 2, {{2}, {1}, {0}, {1}});  // two groups of four columns
  StatisticsHeader header = small_header(0, 3);
  header.layers.layers.push_back(conv);
  header.kinds = {StatisticKind::kInputGram};
  header.blocks = {{"fc/input_gram", 1}};
  NamedTensors sums;
  sums["fc/input_gram"] = at::ones({3}, at::kDouble);
  sums["fc/input_sum"] = at::ones({3}, at::kDouble);
  sums["fc/rows"] = sums["twin/rows"] = at::scalar_tensor(6, at::kLong);
  sums["conv/input_gram"] = random({2, 4, 4}, 1);
  sums["conv/input_sum"] = random({2, 4}, 2);
  sums["conv/rows"] = at::scalar_tensor(7, at::kLong);
  const Statistics statistics = make(header, sums);
  statistics.save(folder / "left.safetensors");
  EXPECT_TRUE(read_by_python(folder, "input_gram(layers[2])").equal(statistics.input_gram(conv).flatten()));
  EXPECT_EQ(read_by_python(folder, "[input_gram(layers[0]) is None]").item<double>(), 1);
}

}  // namespace
}  // namespace amalgam
