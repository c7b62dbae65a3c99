#include "solvers/streamed_merge.h"

#include <gmock/gmock.h>

#include "core/error.h"
#include "expect_error.h"
#include "solvers/merge_case.h"

namespace amalgam {
namespace {

using test::MergeCase;
using testing::HasSubstr;

/// A stack of two blocks with odd sizes, an embedding, a norm, a buffer.
std::unique_ptr<MergeCase> small_model(const std::vector<std::string>& tasks, at::ScalarType dtype) {
  auto model = std::make_unique<MergeCase>();
  model->parameter("embed.weight", {11, 5});
  for (const char* block : {"layers.0.", "layers.1."}) {
    model->parameter(block + std::string("fc.weight"), {7, 5});
    model->parameter(block + std::string("fc.bias"), {7});
    model->parameter(block + std::string("norm.weight"), {5});
  }
  model->parameter("kernel", {3, 2, 3, 3});
  model->draw(tasks);
  model->store_as(dtype);
  model->base["positions"] = at::arange(4);
  for (NamedTensors& expert : model->experts) expert["positions"] = at::arange(4);
  model->build().buffers = {"positions"};
  model->input.seed = 5;
  return model;
}

/// An entry of a recipe for each method that needs no data.
std::vector<std::string> entries() {
  std::vector<std::string> result;
  for (const std::string& name : method_names()) {
    if (!why_not_streamed(*make_method(name, {}, name)).empty()) continue;
    result.push_back(name == "passthrough"  ? "{method: passthrough, expert: b}"
                     : name == "layer_swap" ? "{method: layer_swap, outer: a, inner: b, bottom: 1, top: 0}"
                     : name == "wudi"       ? "{method: wudi, iterations: 5}"
                                            : "{method: " + name + "}");
  }
  result.insert(result.end(), {"{method: ties, trim: tensor, except: ['embed*']}", "{method: dare, inner: ties}",
                               "{method: dare, inner: average}"});
  return result;
}

NamedTensors streamed(const std::string& entry, const MergeInput& input, Progress& progress) {
  const auto method = make_method(YAML::Load(entry), "merge");
  const StreamedMerge merge(*method, input, progress);
  NamedTensors result;
  for (const auto& [name, info] : merge.infos()) result[name] = merge.get(name);
  return result;
}

NamedTensors streamed(const std::string& entry, const MergeInput& input) {
  SilentProgress silent;
  return streamed(entry, input, silent);
}

class StreamedMergeOf : public testing::TestWithParam<std::string> {};

TEST_P(StreamedMergeOf, EqualsTheMergeInMemory) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const auto model = small_model({"a", "b"}, dtype);
    const NamedTensors expected = model->merge(GetParam()).merged, found = streamed(GetParam(), model->input);
    ASSERT_EQ(found.size(), expected.size());
    for (const auto& [name, tensor] : expected) {
      EXPECT_EQ(found.at(name).scalar_type(), tensor.scalar_type()) << name;
      EXPECT_TRUE(at::equal(found.at(name), tensor)) << name << " in " << c10::toString(dtype);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Methods, StreamedMergeOf, testing::ValuesIn(entries()), [](const auto& param) {
  std::string name = std::to_string(param.index) + "_";
  for (const char c : param.param.substr(9, param.param.find_first_of(",}") - 9))
    name += std::isalnum(static_cast<unsigned char>(c)) ? std::string(1, c) : "_";
  return name;
});

TEST(StreamedMerge, RoundsAnAverageOfHalfPrecisionOnce) {
  auto model = small_model({"a", "b"}, at::kBFloat16);
  const NamedTensors found = streamed("average", model->input);
  for (const auto& [name, tensor] : found) {
    if (!tensor.is_floating_point()) continue;
    const at::Tensor a = model->experts[0].at(name), b = model->experts[1].at(name);
    // Exact in float64; in float32 too, but where exponents are far apart.
    const at::Tensor mean = (a.to(at::kDouble) + b.to(at::kDouble)) / 2;
    const at::Tensor once = mean.to(at::kFloat).to(at::kBFloat16);
    EXPECT_TRUE(at::equal(tensor, once)) << name;
  }
}

TEST(StreamedMerge, TakesBuffersAsTheMethodSays) {
  auto model = small_model({"a", "b"}, at::kFloat);
  NamedTensors other = model->experts[1];
  other["positions"] = at::arange(4) + 4;
  const MemoryTensors source(other);
  model->input.experts[1].tensors = &source;
  const auto positions = [&](const char* entry) { return streamed(entry, model->input).at("positions"); };
  EXPECT_TRUE(at::equal(positions("{method: passthrough, expert: b}"), other["positions"]));
  EXPECT_TRUE(at::equal(positions("average"), at::arange(4)));
}

TEST(StreamedMerge, GivesCopiesOfOneExpertBack) {
  for (const char* entry : {"average", "linear", "slerp", "model_stock", "{method: ties, density: 1}",
                            "{method: task_arithmetic, scale: 0.5}", "{method: consensus, agreeing: 2, scale: 0.5}",
                            "{method: sce, density: 1}", "{method: dare, drop: 0, inner: average}",
                            "{method: breadcrumbs, density: 1, outliers: 0, scale: 0.5}"}) {
    auto model = small_model({"a", "b"}, at::kBFloat16);
    const MemoryTensors copy(model->experts[0]);
    model->input.experts[1].tensors = &copy;
    const NamedTensors found = streamed(entry, model->input);
    for (const auto& [name, tensor] : found) EXPECT_TRUE(at::equal(tensor, copy.get(name))) << entry << ": " << name;
  }
}

TEST(StreamedMerge, NamesWhatTheMethodLeavesAside) {
  const auto model = small_model({"a", "b"}, at::kFloat);
  const auto method = make_method(YAML::Load("{method: ties, except: ['embed*']}"), "merge");
  SilentProgress silent;
  const StreamedMerge merge(*method, model->input, silent);
  ASSERT_EQ(merge.report().fallbacks.size(), 1U);
  EXPECT_EQ(merge.report().fallbacks[0].parameter, "embed.weight");
  EXPECT_EQ(merge.report().merged_parameters, 7);
}

/// Notes what it is told; stops at one update.
class Recorder final : public Progress {
 public:
  explicit Recorder(int stop_at = -1) : stop_at_(stop_at) {}

  void begin(const std::string& what, int64_t) override { begun.push_back(what); }
  void update(int64_t, const std::string&) override {
    if (updates++ == stop_at_) throw Interrupted();
  }
  void end(const std::string&) override {}
  void message(const std::string&) override {}

  std::vector<std::string> begun;
  int updates = 0;

 private:
  int stop_at_;
};

TEST(StreamedMerge, CountsThePassesOfAPlan) {
  const auto model = small_model({"a", "b"}, at::kFloat);
  const auto passes = [&](const std::string& entry) {
    Recorder recorder;
    streamed(entry, model->input, recorder);
    EXPECT_EQ(recorder.begun.back(), "merge, MB");
    return recorder.begun.size() - 1;
  };
  EXPECT_EQ(passes("average"), 0U);
  EXPECT_EQ(passes("ties"), 3U);
  EXPECT_EQ(passes("{method: dare, inner: ties}"), 3U);
  EXPECT_EQ(passes("pcb"), 4U);
  EXPECT_EQ(passes("opcm"), 1U);
}

TEST(StreamedMerge, CanBeStoppedInThePlanAndInTheMerge) {
  const auto model = small_model({"a", "b"}, at::kFloat);
  Recorder all;
  streamed("ties", model->input, all);
  for (int at = 0; at < all.updates; ++at) {
    Recorder stops(at);
    EXPECT_THROW(streamed("ties", model->input, stops), Interrupted) << at;
  }
}

TEST(StreamedMerge, RefusesMethodsThatNeedMoreThanTensors) {
  const auto model = small_model({"a", "b"}, at::kFloat);
  EXPECT_THAT(input_error_of([&] { streamed("regmean", model->input); }), HasSubstr("'input_gram'"));
  EXPECT_THAT(input_error_of([&] { streamed("{method: dare, inner: fisher}", model->input); }),
              HasSubstr("'squared_gradient'"));
  EXPECT_THAT(input_error_of([&] { streamed("lora_lego", model->input); }), HasSubstr("adapters"));
  EXPECT_THAT(input_error_of([&] { streamed("adamerging", model->input); }), HasSubstr("the models"));
  EXPECT_THAT(input_error_of([&] { streamed("tall", model->input); }), HasSubstr("a part for each task"));
  EXPECT_EQ(why_not_streamed(*make_method("ties", {}, "ties")), "");
}

TEST(StreamedMerge, RefusesValuesThatAreNotFinite) {
  auto model = small_model({"a", "b"}, at::kFloat);
  model->experts[1].at("layers.1.fc.bias")[3] = std::numeric_limits<float>::infinity();
  EXPECT_THAT(input_error_of([&] { streamed("average", model->input); }),
              testing::AllOf(HasSubstr("layers.1.fc.bias"), HasSubstr("'b'")));
}

TEST(StreamedMerge, RefusesExpertsThatDiffer) {
  auto model = small_model({"a", "b"}, at::kFloat);
  const MemoryTensors other({{"embed.weight", at::zeros({11, 6})}});
  model->input.experts[1].tensors = &other;
  EXPECT_THAT(input_error_of([&] { streamed("average", model->input); }), HasSubstr("embed.weight: float32 [11, 5]"));
}

}  // namespace
}  // namespace amalgam
