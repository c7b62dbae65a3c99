#pragma once

#include <c10/util/Exception.h>

#include <functional>
#include <memory>
#include <string>
#include <typeindex>

namespace amalgam {

/// One value, made when it is first asked for by its name and dropped when another one is: what the variants of a
/// method find out about a group of layers in common, and no more of it than one variant needs.
class GroupMemory {
 public:
  /// The value of that name; `make` is called where another one, or none, is kept. Where it throws nothing is kept.
  /// @throws c10::Error if the name was given to a value of another type
  template <class T>
  std::shared_ptr<const T> remember(const std::string& key, const std::function<T()>& make) {
    if (value_ == nullptr || key != key_) {
      value_.reset();  // before the next one is made
      value_ = std::make_shared<const T>(make());
      key_ = key;
      type_ = typeid(T);
    }
    TORCH_CHECK(type_ == typeid(T), "'", key, "' was remembered as a value of another type");
    return std::static_pointer_cast<const T>(value_);
  }

 private:
  std::string key_;
  std::type_index type_ = typeid(void);
  std::shared_ptr<const void> value_;
};

}  // namespace amalgam
