#include "solvers/methods/passthrough.h"

#include <gmock/gmock.h>

#include "expect_error.h"
#include "solvers/merge_case.h"

namespace amalgam {
namespace {

using test::MergeCase;
using testing::HasSubstr;

struct PassthroughCase : testing::Test {
  MergeCase merge_case;
  PassthroughCase() {
    for (const char* name : {"layer.0.w", "layer.1.w", "norm"}) merge_case.parameter(name, {5});
    merge_case.draw({"left", "right"});
    merge_case.store_as(at::kBFloat16);
    merge_case.build();
  }
  std::string error(const std::string& entry) {
    return input_error_of([&] { merge_case.merge(entry); });
  }
};

TEST_F(PassthroughCase, CopiesOneExpertToTheBit) {
  const auto merged = merge_case.merge("{method: passthrough, expert: right}").merged;
  for (const auto& [name, tensor] : merge_case.experts[1]) EXPECT_TRUE(at::equal(merged.at(name), tensor)) << name;
}

TEST_F(PassthroughCase, TakesLayersOfOtherExperts) {
  const auto merged = merge_case
                          .merge(
                              "{method: passthrough, expert: left, by_layer: [{pattern: layer.1.w, expert: right}, "
                              "{pattern: 'layer.*', expert: left}]}")
                          .merged;
  EXPECT_TRUE(at::equal(merged.at("layer.0.w"), merge_case.experts[0]["layer.0.w"]));
  EXPECT_TRUE(at::equal(merged.at("layer.1.w"), merge_case.experts[1]["layer.1.w"]));
  EXPECT_TRUE(at::equal(merged.at("norm"), merge_case.experts[0]["norm"]));
}

TEST(Passthrough, CopiesBuffersAsTheirLayers) {
  MergeCase merge_case;
  merge_case.parameter("layer.0.w", {2});
  merge_case.parameter("layer.1.w", {2});
  merge_case.draw({"left", "right"});
  for (int64_t m = 0; m < 2; ++m)
    for (const char* name : {"layer.0.mean", "layer.0.count", "layer.1.mean"})
      merge_case.experts[static_cast<size_t>(m)][name] =
          at::full({2}, 1 + m, std::string(name).ends_with("count") ? at::kLong : at::kFloat);
  merge_case.build().buffers = {"layer.0.mean", "layer.0.count", "layer.1.mean"};
  merge_case.input.base = nullptr;
  const auto merged =
      merge_case.merge("{method: passthrough, expert: right, by_layer: [{pattern: 'layer.1.*', expert: left}]}").merged;
  for (const auto& [name, expert] : {std::pair{"layer.0.mean", 1}, {"layer.0.count", 1}, {"layer.1.mean", 0}})
    EXPECT_TRUE(at::equal(merged.at(name), merge_case.experts[static_cast<size_t>(expert)][name])) << name;
  const auto aside = merge_case.merge("{method: passthrough, expert: right, except: ['layer.0.*']}").merged;
  EXPECT_TRUE(at::equal(aside.at("layer.0.mean"), at::full({2}, 1.5F)));
}

TEST_F(PassthroughCase, RefusesWhatItCannotCopy) {
  EXPECT_THAT(error("passthrough"), HasSubstr("`expert`"));
  EXPECT_THAT(error("{method: passthrough, expert: lefd}"), HasSubstr("'left'"));
  EXPECT_THAT(error("{method: passthrough, expert: left, by_layer: [{pattern: 'x*', expert: right}]}"),
              HasSubstr("'x*'"));
  EXPECT_THAT(error("{method: passthrough, expert: left, by_layer: [{pattern: '*'}]}"), HasSubstr("by_layer[0]"));
}

}  // namespace
}  // namespace amalgam
