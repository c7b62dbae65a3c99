#include "models/task_switch.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "core/error.h"
#include "core/low_rank.h"
#include "core/task_parts.h"
#include "models/torchscript_runner.h"

namespace amalgam {
namespace {

using torch::jit::Module;

constexpr std::array<std::string_view, 35> kWords = {
    "False", "None",     "True",  "and",    "as",   "assert", "async",  "await",    "break",
    "class", "continue", "def",   "del",    "elif", "else",   "except", "finally",  "for",
    "from",  "global",   "if",    "import", "in",   "is",     "lambda", "nonlocal", "not",
    "or",    "pass",     "raise", "return", "try",  "while",  "with",   "yield"};

/// How a part is put together again. 7 is float64 in TorchScript's code. float64 for products as core/task_parts.h
/// promises; where a caller lets LibTorch choose a narrower dtype (autocast), it leaves float64 alone.
constexpr const char* kRebuild = R"(
def _masked(self, mask: Tensor, shared: Tensor, base: Tensor) -> Tensor:
    bits = mask.unsqueeze(1).bitwise_and(self._parts.bits).ne(0).view(-1)
    return torch.where(bits.narrow(0, 0, shared.numel()).view_as(shared), shared, base)

def _raised(self, up: Tensor, down: Tensor, shared: Tensor) -> Tensor:
    return torch.add(shared.to(7), torch.mm(up.to(7), down.to(7)).view_as(shared)).type_as(shared)
)";

/// "getattr(getattr(self.left, "body"), "0").weight": an attribute by a name that code can write, of modules by any.
std::string attribute(const std::string& task, const std::string& name) {
  std::string owner = "self." + task;
  size_t begin = 0;
  for (size_t dot = name.find('.'); dot != std::string::npos; begin = dot + 1, dot = name.find('.', begin))
    owner = fmt::format("getattr({}, \"{}\")", owner, name.substr(begin, dot - begin));
  return owner + "." + name.substr(begin);
}

bool can_be_assigned(const std::string& name) {
  return name.find_first_of("\"\\\n") == std::string::npos && is_attribute_name(name.substr(name.rfind('.') + 1));
}

class Switch {
 public:
  Switch(Module& merged, const std::vector<SwitchedTask>& tasks, const NamedTensors& shared, const NamedTensors& parts)
      : merged_(merged), tasks_(tasks), shared_(shared), parts_(parts), routed_(has_router(parts_)) {}

  bool add() {
    for (const SwitchedTask& task : tasks_) add(task);
    if (places_.empty() && !routed_) return false;
    std::string select =
        "def _select(self, task: str, part: str) -> None:\n    if task + '/' + part == self._selected:\n"
        "        return\n";
    for (const SwitchedTask& task : tasks_)
      select += fmt::format("    if self._selected.startswith('{0}/'):\n        self._release_{0}()\n", task.task);
    select += "    self._selected = ''\n    values = self._values(part)\n";
    for (const SwitchedTask& task : tasks_)
      select += fmt::format("    if task == '{0}':\n        self._assign_{0}(values)\n", task.task);
    buffer("bits", at::bitwise_left_shift(at::ones({8}, at::kByte), at::arange(8, at::kByte)));
    buffer("empty", at::empty({0}));
    if (routed_) add_router();
    const std::string values = values_source();
    merged_.register_module("_parts", packed_);
    merged_.register_attribute("_selected", c10::StringType::get(), std::string());
    merged_.define(kRebuild + values + source_ + select + "    self._selected = task + '/' + part\n");
    return true;
  }

 private:
  void add(const SwitchedTask& task) {
    std::string assign, release;
    for (const auto& [name, info] : shared_.infos()) {
      std::vector<std::string> names = {name};
      for (const auto& [alias, first] : task.aliases)
        if (first == name) names.push_back(alias);
      const PartKind kind = part_kind(parts_, task.task, name);
      const bool assignable = std::ranges::all_of(names, can_be_assigned);
      if (routed_ ? !has_part(name) : kind == PartKind::kNone) continue;
      require_input(!routed_ || assignable,
                    "a router exchanges tensors by their names, and TorchScript has none for '{}'; leave `router` out",
                    name);
      if (!routed_ && (kind == PartKind::kValue || !assignable)) {
        const at::Tensor value = with_part(shared_, parts_, task.task, name).clone(at::MemoryFormat::Contiguous);
        if (value.is_floating_point()) value.requires_grad_(shared_.get(name).requires_grad());
        for (const std::string& own : names) set_tensor(task.module, own, value);
        continue;
      }
      const size_t place = place_of(name);
      for (const std::string& own : names) {
        set_tensor(task.module, own, at::empty({0}, info.dtype));
        assign += fmt::format("    {} = values[{}]\n", attribute(task.task, own), place);
        release += fmt::format("    {} = self._parts.empty\n", attribute(task.task, own));
      }
    }
    if (assign.empty()) assign = release = "    pass\n";
    source_ += fmt::format(
        "\ndef _assign_{0}(self, values: List[Tensor]) -> None:\n{1}\ndef _release_{0}(self) -> None:\n{2}\n",
        task.task, assign, release);
  }

  void add_router() {
    for (const char* name : {kRouterWeight, kRouterBias, kRouterMean, kRouterDeviation}) {
      std::string attribute = name;
      std::ranges::replace(attribute, '.', '_');
      buffer(attribute, packed(name));
    }
  }

  bool has_part(const std::string& name) const {
    return std::ranges::any_of(
        tasks_, [&](const SwitchedTask& task) { return part_kind(parts_, task.task, name) != PartKind::kNone; });
  }

  /// The number of a tensor among those that are built.
  size_t place_of(const std::string& name) {
    const auto place = static_cast<size_t>(std::ranges::find(places_, name) - places_.begin());
    if (place == places_.size()) places_.push_back(name);
    return place;
  }

  /// The source of `_values(part)`, all that is built, as a list: code is written out at each call, so there is one.
  std::string values_source() {
    const auto list_of = [&](const std::string& task) {
      std::string list;
      for (size_t place = 0; place < places_.size(); ++place) {
        // As it is, and not a copy: a task without a part has the same tensor.
        const std::string shared = buffer(fmt::format("shared_{}", place), shared_.get(places_[place]).detach());
        const PartKind kind = task.empty() ? PartKind::kNone : part_kind(parts_, task, places_[place]);
        const bool is_apart = kind == PartKind::kNone || (!routed_ && kind == PartKind::kValue);
        list +=
            (list.empty() ? "" : ", ") + (is_apart ? shared : expression(task, places_[place], kind, place, shared));
      }
      return "[" + list + "]";
    };
    if (places_.empty())
      return "\ndef _values(self, part: str) -> List[Tensor]:\n    none: List[Tensor] = []\n    return none\n";
    std::string source = "\ndef _values(self, part: str) -> List[Tensor]:\n";
    for (const SwitchedTask& task : tasks_)
      source += fmt::format("    if part == '{}':\n        return {}\n", task.task, list_of(task.task));
    return source + fmt::format("    return {}\n", list_of(""));
  }

  std::string expression(const std::string& task, const std::string& name, PartKind kind, size_t place,
                         const std::string& shared) {
    const std::string part = part_name(task, name);
    if (kind == PartKind::kValue) return buffer(fmt::format("{}_value_{}", task, place), packed(part));
    if (kind == PartKind::kMask)
      return fmt::format("self._masked({}, {}, {})",
                         buffer(fmt::format("{}_mask_{}", task, place), packed(mask_name(task, name))), shared,
                         buffer(fmt::format("base_{}", place), packed(base_part_name(name))));
    return fmt::format("self._raised({}, {}, {})", buffer(fmt::format("{}_up_{}", task, place), packed(up_name(part))),
                       buffer(fmt::format("{}_down_{}", task, place), packed(down_name(part))), shared);
  }

  /// A copy: a view would take all the memory behind it into the file.
  at::Tensor packed(const std::string& part) const { return parts_.get(part).clone(at::MemoryFormat::Contiguous); }

  /// What code calls the buffer.
  std::string buffer(const std::string& name, const at::Tensor& tensor) {
    if (!packed_.hasattr(name)) packed_.register_buffer(name, tensor);
    return "self._parts." + name;
  }

  static Module make_packed() {
    Module packed("TaskParts");
    packed.register_attribute("training", c10::BoolType::get(), false);
    return packed;
  }

  Module& merged_;
  const std::vector<SwitchedTask>& tasks_;
  const MemoryTensors shared_, parts_;
  const bool routed_;
  Module packed_ = make_packed();
  std::vector<std::string> places_;  // the tensors that are built
  std::string source_;
};

}  // namespace

bool add_task_switch(Module& merged, const std::vector<SwitchedTask>& tasks, const NamedTensors& shared,
                     const NamedTensors& parts) {
  return Switch(merged, tasks, shared, parts).add();
}

void select_task(const Module& merged, const std::string& task) {
  const at::NoGradGuard no_grad;
  if (const auto select = merged.find_method("_select")) (*select)({task, task});
}

bool is_attribute_name(const std::string& name) {
  const auto inner = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  };
  return !name.empty() && std::ranges::all_of(name, inner) && !(name[0] >= '0' && name[0] <= '9') &&
         std::ranges::count(kWords, name) == 0;
}

}  // namespace amalgam
