#include "solvers/methods/names_tasks.h"

#include <gmock/gmock.h>

#include "expect_error.h"

namespace amalgam {
namespace {

using ::testing::HasSubstr;

void check(const std::string& entry) {
  check_task_names(*make_method(YAML::Load(entry), "merge.x"), {{"left"}, {"right"}});
}

TEST(NamesTasks, AreFoundBeforeAnyModelIsThere) {
  for (const char* entry :
       {"average", "{method: passthrough, expert: left}", "{method: linear, weights: [1, 2]}",
        "{method: linear, weights: {right: 1, left: 2}}", "{method: layer_swap, outer: left, inner: right}",
        "{method: mats, init: 'expert:right'}", "{method: dare, inner: average}"})
    EXPECT_NO_THROW(check(entry)) << entry;
}

TEST(NamesTasks, AreRefusedWithTheNearest) {
  for (const auto& [entry, part] : std::vector<std::pair<const char*, const char*>>{
           {"{method: passthrough, expert: lef}", "merge.x.expert: there is no task 'lef', did you mean 'left'?"},
           {"{method: passthrough, expert: left, by_layer: [{pattern: a, expert: rigt}]}",
            "merge.x.by_layer[0].expert"},
           {"{method: linear, weights: {left: 1, rigt: 2}}", "merge.x.weights"},
           {"{method: linear, by_layer: [{pattern: a, weights: [1]}]}", "merge.x.by_layer[0].weights"},
           {"{method: layer_swap, outer: left, inner: rigt}", "merge.x.inner"},
           {"{method: mats, init: 'expert:rigt'}", "merge.x.init"},
           {"{method: mats, init: {method: passthrough, expert: rigt}}", "merge.x.init.expert"},
           {"{method: twin, inner: {method: passthrough, expert: rigt}}", "merge.x.inner.expert"},
           {"{method: dare, inner: {method: passthrough, expert: rigt}}", "merge.x.inner.expert"}})
    EXPECT_THAT(input_error_of([&] { check(entry); }), HasSubstr(part)) << entry;
}

TEST(NamesTasks, ThatHaveAValueEachAreCounted) {
  for (const char* entry : {"{method: consensus, mask_scale: [1, 2, 3]}", "{method: tall, mask_scale: [1, 2, 3]}",
                            "{method: twin, inner: {method: consensus, mask_scale: [1, 2, 3]}}"})
    EXPECT_THAT(input_error_of([&] { check(entry); }), HasSubstr("mask_scale: 3 values for 2 tasks")) << entry;
  EXPECT_NO_THROW(check("{method: consensus, mask_scale: [1, 2]}"));
}

TEST(NamesTasks, HaveWeightsThatCanBeNormalised) {
  EXPECT_THAT(input_error_of([] { check("{method: linear, weights: [1, -1]}"); }), HasSubstr("normalise: false"));
  EXPECT_THAT(input_error_of([] { check("{method: linear, by_layer: [{pattern: a, weights: [0, 0]}]}"); }),
              HasSubstr("by_layer[0]"));
  EXPECT_NO_THROW(check("{method: linear, weights: [1, -1], normalise: false}"));
}

TEST(NamesTasks, AreMissedWhereTheyMustBeGiven) {
  EXPECT_THAT(input_error_of([] { check("passthrough"); }), HasSubstr("give `expert`"));
  EXPECT_THAT(input_error_of([] { check("layer_swap"); }), HasSubstr("give `outer` and `inner`"));
}

}  // namespace
}  // namespace amalgam
