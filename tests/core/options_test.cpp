#include "core/options.h"

#include <gtest/gtest.h>

#include "expect_error.h"

namespace amalgam {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Inner {
  double rate = 0.5;
  void declare(OptionSet& set) { set.real("rate", rate, {0, 1}, "a share"); }
};

struct Kind {
  std::string mode = "one";
  double rate = 0.5;
  void declare(OptionSet& set) {
    set.choice("mode", mode, {"one", "two"}, "a mode");
    set.real("rate", rate, {0, 1}, "a share");
  }
};

struct Outer {
  int64_t steps = 10;
  bool fast = false;
  std::string name = "x", mode = "one";
  std::vector<double> scales{1, 2};
  std::vector<std::string> words;
  Inner inner;
  Kind kind;
  std::vector<Inner> list;
  YAML::Node free;
  void declare(OptionSet& set) {
    set.integer("steps", steps, {1, 100}, "how many");
    set.flag("fast", fast, "be fast");
    set.text("name", name, "a name");
    set.choice("mode", mode, {"one", "two"}, "a mode");
    set.reals("scales", scales, {0, 10}, "scales");
    set.texts("words", words, "words");
    set.section("inner", inner, "a section");
    set.section_or_word("kind", kind, "mode", "a section or a word");
    set.sections("list", list, "sections");
    set.node("free", free, "anything");
  }
};

Outer read(const std::string& yaml) {
  Outer outer;
  read_options(outer, YAML::Load(yaml), "top");
  return outer;
}

std::string error_of(const std::string& yaml) {
  return input_error_of([&] { read(yaml); });
}

TEST(Options, KeepDefaultsWhereNothingIsSaid) {
  EXPECT_EQ(read("{}").steps, 10);
  EXPECT_EQ(read("").mode, "one");
}

TEST(Options, ReadEveryType) {
  const auto outer = read(
      "{steps: 7, fast: true, name: y, mode: two, scales: [3, 4], words: a, inner: {rate: 0.25}, list: [{}, {rate: "
      "1}], free: {a: [1]}}");
  EXPECT_EQ(outer.steps, 7);
  EXPECT_TRUE(outer.fast);
  EXPECT_EQ(outer.name, "y");
  EXPECT_EQ(outer.mode, "two");
  EXPECT_THAT(outer.scales, ElementsAre(3, 4));
  EXPECT_THAT(outer.words, ElementsAre("a"));
  EXPECT_EQ(outer.inner.rate, 0.25);
  ASSERT_EQ(outer.list.size(), 2U);
  EXPECT_EQ(outer.list[1].rate, 1.0);
  EXPECT_EQ(outer.free["a"][0].as<int>(), 1);
}

TEST(Options, WriteWhatTheyReadBack) {
  auto outer = read(
      "{steps: 7, fast: true, name: 'true: 1', mode: two, scales: [0.1, 4], inner: {rate: 0.3}, list: [{rate: 1}, {}], "
      "words: [a, b], free: {a: [1]}}");
  YAML::Emitter out;
  out << write_options(outer);
  const auto again = read(out.c_str());
  EXPECT_EQ(again.steps, 7);
  EXPECT_TRUE(again.fast);
  EXPECT_EQ(again.name, "true: 1");
  EXPECT_EQ(again.mode, "two");
  EXPECT_THAT(again.scales, ElementsAre(0.1, 4));
  EXPECT_EQ(again.inner.rate, 0.3);
  ASSERT_EQ(again.list.size(), 2U);
  EXPECT_EQ(again.list[0].rate, 1.0);
  EXPECT_EQ(again.list[1].rate, 0.5);
  EXPECT_THAT(again.words, ElementsAre("a", "b"));
  EXPECT_EQ(again.free["a"][0].as<int>(), 1);
}

TEST(Options, NameTheNearestKeyOfAnUnknownOne) {
  const auto error = error_of("{inner: {rat: 1}}");
  EXPECT_THAT(error, HasSubstr("top.inner.rat"));
  EXPECT_THAT(error, HasSubstr("did you mean 'rate'?"));
}

TEST(Options, ListTheKeysWhereNothingIsNear) {
  EXPECT_THAT(error_of("{zzzzzzzz: 1}"), HasSubstr("known: steps, fast"));
}

TEST(Options, NameTheNearestChoice) { EXPECT_THAT(error_of("{mode: twoo}"), HasSubstr("did you mean 'two'?")); }

TEST(Options, RefuseValuesOutOfRange) {
  EXPECT_THAT(error_of("{steps: 0}"), HasSubstr("top.steps: 0 is out of range [1, 100]"));
  EXPECT_THAT(error_of("{list: [{rate: 0}, {rate: 2}]}"), HasSubstr("top.list[1].rate"));
  EXPECT_THAT(error_of("{scales: [1, 11]}"), HasSubstr("top.scales[1]"));
  EXPECT_THAT(error_of("{inner: {rate: .nan}}"), HasSubstr("out of range"));
}

TEST(Options, RefuseOtherTypes) {
  EXPECT_THAT(error_of("{steps: many}"), HasSubstr("expected a whole number, found 'many'"));
  EXPECT_THAT(error_of("{steps: 1.5}"), HasSubstr("whole number"));
  EXPECT_THAT(error_of("{steps: [1]}"), HasSubstr("whole number"));
  EXPECT_THAT(error_of("{inner: 5}"), HasSubstr("expected a map"));
  EXPECT_THAT(error_of("{list: 5}"), HasSubstr("expected a list"));
  EXPECT_THAT(error_of("{fast: 7}"), HasSubstr("true or false"));
}

TEST(Options, RefuseAKeyGivenTwice) { EXPECT_THAT(error_of("{steps: 1, steps: 2}"), HasSubstr("twice")); }

TEST(Options, DescribeDefaultsAndHelp) {
  Outer outer;
  OptionSet set;
  outer.declare(set);
  EXPECT_EQ(set.describe()[0].default_text, "10");
  EXPECT_EQ(set.describe()[3].type, "one | two");
  EXPECT_EQ(set.describe()[4].default_text, "[1, 2]");
}

TEST(Options, TakeAWordForASection) {
  EXPECT_EQ(read("{kind: two}").kind.mode, "two");
  EXPECT_EQ(read("{kind: two}").kind.rate, 0.5);
  EXPECT_EQ(read("{kind: {rate: 0.25}}").kind.mode, "one");
  EXPECT_THAT(error_of("{kind: twoo}"), HasSubstr("top.kind.mode: 'twoo' is not a choice, did you mean 'two'?"));
  const YAML::Node written = write_options(read("{kind: two}"));
  EXPECT_EQ(written["kind"]["mode"].Scalar(), "two");
}

}  // namespace
}  // namespace amalgam
