#include "solvers/methods/block_names.h"

#include <algorithm>
#include <map>

#include "core/error.h"

namespace amalgam {
namespace {

struct Stack {
  int64_t names = 0;
  std::map<std::pair<size_t, std::string>, std::string> blocks;  // by length and digits of the number, so 9 before 10
};

std::vector<std::string> in_order(const Stack& stack) {
  std::vector<std::string> blocks;
  for (const auto& [number, prefix] : stack.blocks) blocks.push_back(prefix);
  return blocks;
}

}  // namespace

std::string numbered_prefix(const std::string& name) {
  for (size_t begin = 0, dot = 0; (dot = name.find('.', begin)) != std::string::npos; begin = dot + 1) {
    const std::string part = name.substr(begin, dot - begin);
    if (!part.empty() && part.find_first_not_of("0123456789") == std::string::npos) return name.substr(0, dot + 1);
  }
  return "";
}

std::string stack_of(const std::string& prefix) {
  return prefix.substr(0, prefix.find_last_not_of("0123456789", prefix.size() - 2) + 1);
}

std::vector<std::string> blocks_of_stack(const std::vector<std::string>& names, const std::string& stack) {
  std::map<std::string, Stack> stacks;
  for (const std::string& name : names) {
    const std::string prefix = numbered_prefix(name);
    if (prefix.empty()) continue;
    Stack& own = stacks[stack_of(prefix)];
    ++own.names;
    const std::string number = prefix.substr(stack_of(prefix).size());
    own.blocks[{number.size(), number}] = prefix;
  }
  if (!stack.empty()) return in_order(stacks[stack]);
  if (stacks.empty()) return {};
  const auto largest =
      std::ranges::max_element(stacks, [](const auto& a, const auto& b) { return a.second.names < b.second.names; });
  for (const auto& [name, own] : stacks)
    require_input(name == largest->first || own.names < largest->second.names,
                  "the stacks of blocks '{}' and '{}' are equally large: say with `stack` which is meant",
                  largest->first, name);
  return in_order(largest->second);
}

}  // namespace amalgam
