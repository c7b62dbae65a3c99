#include "solvers/group_memory.h"

#include <gtest/gtest.h>

#include <stdexcept>

namespace amalgam {
namespace {

TEST(GroupMemory, MakesAValueOnceByItsName) {
  GroupMemory memory;
  int made = 0;
  const std::function<int()> make = [&] { return ++made; };
  EXPECT_EQ(*memory.remember("a", make), 1);
  EXPECT_EQ(*memory.remember("a", make), 1);
  EXPECT_EQ(*memory.remember("b", make), 2);
}

TEST(GroupMemory, DropsAValueForTheNext) {
  GroupMemory memory;
  const std::weak_ptr<const int> first = memory.remember<int>("a", [] { return 1; });
  EXPECT_FALSE(first.expired());
  const auto second = memory.remember<int>("b", [&] {
    EXPECT_TRUE(first.expired()) << "before the next one is made";
    return 2;
  });
  EXPECT_EQ(*second, 2);
  EXPECT_EQ(*memory.remember<int>("a", [] { return 3; }), 3);
}

TEST(GroupMemory, KeepsNothingOfWhatThrew) {
  GroupMemory memory;
  const std::function<int()> fail = []() -> int { throw std::runtime_error("no"); };
  EXPECT_THROW(memory.remember("a", fail), std::runtime_error);
  EXPECT_EQ(*memory.remember<int>("a", [] { return 3; }), 3);
}

TEST(GroupMemory, RefusesAnotherTypeUnderOneName) {
  GroupMemory memory;
  memory.remember<int>("a", [] { return 1; });
  EXPECT_THROW(memory.remember<double>("a", [] { return 1.0; }), c10::Error);
}

}  // namespace
}  // namespace amalgam
