#pragma once

#include <c10/util/Exception.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <typeindex>
#include <utility>

namespace amalgam {

/// Values by name, each made when it is first asked for: what the variants of a method find out about a group of layers
/// in common.
class GroupMemory {
 public:
  /// The value of that name; `make` is called where there is none yet. Where it throws nothing is kept.
  /// @throws c10::Error if the name was given to a value of another type
  template <class T>
  std::shared_ptr<const T> remember(const std::string& key, const std::function<T()>& make) {
    auto found = values_.find(key);
    if (found == values_.end()) found = values_.emplace(key, Value{typeid(T), std::make_shared<const T>(make())}).first;
    TORCH_CHECK(found->second.first == typeid(T), "'", key, "' was remembered as a value of another type");
    return std::static_pointer_cast<const T>(found->second.second);
  }

 private:
  using Value = std::pair<std::type_index, std::shared_ptr<const void>>;

  std::map<std::string, Value> values_;
};

}  // namespace amalgam
