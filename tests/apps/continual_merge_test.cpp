#include "apps/continual_merge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "apps/small_run.h"
#include "core/atomic_file.h"
#include "core/digest.h"
#include "core/random.h"
#include "expect_error.h"
#include "models/artefact.h"
#include "solvers/merge.h"
#include "temporary_folder.h"
#include "tests/apps/script_model.h"

namespace amalgam {
namespace {

using ::testing::HasSubstr;

/// A base and three experts of one small network, as files.
struct Files {
  Files() {
    for (int i = 0; i < 4; ++i) {
      const auto generator = RandomStream(static_cast<uint64_t>(i), "files").generator();
      const auto draw = [&](at::IntArrayRef shape) { return at::randn(shape, generator, at::kFloat); };
      if (i == 0) base = {{"body.weight", draw({5, 4})}, {"head.weight", draw({3, 5})}};
      auto values = base;
      for (auto& [name, tensor] : values)
        if (i > 0) tensor = tensor + 0.1 * draw(tensor.sizes());
      script_model(values, R"(
def forward(self, x: Tensor) -> Tensor:
    return torch.linear(torch.relu(torch.linear(x, self.body.weight)), self.head.weight)
)")
          ->save(path(i));
      models.push_back(NamedTensors(values.begin(), values.end()));
    }
  }
  std::filesystem::path path(int model) const { return folder / ("model" + std::to_string(model) + ".pt"); }
  std::filesystem::path output(const std::string& name) const { return folder / (name + ".pt"); }
  ContinualRequest request(const std::filesystem::path& merged, int expert, const std::string& to) const {
    return {.base = path(0), .merged = merged, .expert = path(expert), .output = output(to)};
  }
  ContinualState onto(const std::filesystem::path& merged, int expert, const std::string& to) const {
    SilentProgress silent;
    return ContinualMerge(request(merged, expert, to)).run(silent);
  }
  NamedTensors values(const std::string& name) const { return tensors_of(*open_model(output(name), at::kCPU)); }

  TemporaryFolder folder;
  std::vector<std::pair<std::string, at::Tensor>> base;
  std::vector<NamedTensors> models;
};

/// One after the other by files comes to what `opcm` makes of all at once, up to float32 in between.
TEST(ContinualMerge, ComesToWhatOpcmMakesOfAllAtOnce) {
  const Files files;
  files.onto(files.path(1), 2, "two");
  const auto state = files.onto(files.output("two"), 3, "three");
  EXPECT_EQ(state.experts, 3);

  MergeInput input;
  std::vector<MemoryTensors> sources(files.models.begin(), files.models.end());
  input.base = &sources[0];
  for (size_t i = 1; i < 4; ++i) input.experts.push_back({"t" + std::to_string(i), 1.0, &sources[i], nullptr});
  input.parameters = {"body.weight", "head.weight"};
  SilentProgress silent;
  const auto all = merge(*make_method("opcm", YAML::Node(), "opcm"), input, silent).merged;
  for (const auto& [name, value] : files.values("three"))
    EXPECT_LE((value - all.at(name)).abs().max().item<double>(), 1e-5) << name;
}

TEST(ContinualMerge, KeepsARecordOfAllThatWentIn) {
  const Files files;
  files.onto(files.path(1), 2, "two");
  files.onto(files.output("two"), 3, "three");
  const auto record = nlohmann::json::parse(read_file(continual_record(files.output("three"))));
  ASSERT_EQ(record.at("experts").size(), 3U);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(record.at("experts")[i], digest_of(MemoryTensors(files.models[i + 1]))) << i;
  EXPECT_EQ(record.at("base"), digest_of(MemoryTensors(files.models[0])));
  EXPECT_EQ(record.at("merged"), digest_of(MemoryTensors(files.values("three"))));
  EXPECT_EQ(record.at("state").at("experts"), 3);
}

TEST(ContinualMerge, LeavesPrivateParametersAlone) {
  const Files files;
  auto request = files.request(files.path(1), 2, "two");
  request.private_patterns = {"head.*"};
  SilentProgress silent;
  ContinualMerge(request).run(silent);
  EXPECT_TRUE(at::equal(files.values("two").at("head.weight"), files.models[1].at("head.weight")));
  EXPECT_FALSE(at::equal(files.values("two").at("body.weight"), files.models[1].at("body.weight")));
}

TEST(ContinualMerge, RefusesARecordOfAnotherModelOrBase) {
  const Files files;
  files.onto(files.path(1), 2, "two");
  std::filesystem::copy_file(continual_record(files.output("two")), continual_record(files.path(3)));
  EXPECT_THAT(input_error_of([&] { files.onto(files.path(3), 2, "x"); }), HasSubstr("the record of another model"));
  auto request = files.request(files.output("two"), 3, "x");
  request.base = files.path(2);
  EXPECT_THAT(input_error_of([&] { ContinualMerge{request}; }), HasSubstr("from another base"));
  write_file(continual_record(files.output("two")), "{\"merged\": 3}");
  EXPECT_THAT(input_error_of([&] { files.onto(files.output("two"), 3, "x"); }),
              HasSubstr("no record of a merged model"));
  EXPECT_FALSE(std::filesystem::exists(files.output("x")));
}

TEST(ContinualMerge, RefusesAnExpertThatWentInBefore) {
  const Files files;
  EXPECT_THAT(input_error_of([&] { files.onto(files.path(1), 1, "x"); }), HasSubstr("would count twice"));
  files.onto(files.path(1), 2, "two");
  for (const int expert : {1, 2})
    EXPECT_THAT(input_error_of([&] { files.onto(files.output("two"), expert, "x"); }), HasSubstr("would count twice"));
  EXPECT_FALSE(std::filesystem::exists(files.output("x")));
}

TEST(ContinualMerge, RefusesAnOutputThatIsThere) {
  const Files files;
  const auto before = digest_of_file(files.path(1));
  auto request = files.request(files.path(1), 2, "x");
  request.output = files.path(1);
  EXPECT_THAT(input_error_of([&] { ContinualMerge{request}; }), HasSubstr("there is such a file"));
  EXPECT_EQ(digest_of_file(files.path(1)), before);
}

TEST(ContinualMerge, IsACommand) {
  const Files files;
  const auto merged = call_command({"merge", files.path(2).string(), "--onto", files.path(1).string(), "--base",
                                    files.path(0).string(), "--output", files.output("two").string(), "--quiet"});
  EXPECT_EQ(merged.code, 0) << merged.error;
  EXPECT_THAT(merged.out, HasSubstr("2 experts"));
  EXPECT_TRUE(std::filesystem::exists(files.output("two")));
  const auto refused = call_command({"merge", files.path(2).string(), "--onto", files.path(1).string()});
  EXPECT_EQ(refused.code, 2);
  EXPECT_THAT(refused.error, HasSubstr("--base"));
  EXPECT_EQ(call_command({"merge", "r.yaml", "--share", "0.3"}).code, 2) << "only with --onto";
}

}  // namespace
}  // namespace amalgam
