#include "models/model_call.h"

#include <ATen/core/class_type.h>
#include <ATen/core/jit_type.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/tensor_source.h"

namespace amalgam {
namespace {

/// A part of what a model returned, under each name that it goes by; the first one is shown.
struct Part {
  std::vector<std::string> names;
  c10::IValue value;
};

std::vector<Part> parts_of_tuple(const c10::IValue& returned) {
  const auto tuple = returned.toTuple();
  const auto& schema = tuple->type()->schema();  // of a named tuple
  std::vector<Part> parts;
  for (size_t i = 0; i < tuple->elements().size(); ++i) {
    Part part{{std::to_string(i)}, tuple->elements()[i]};
    if (schema) part.names.insert(part.names.begin(), schema->arguments().at(i).name());
    parts.push_back(std::move(part));
  }
  return parts;
}

std::vector<Part> parts_of(const c10::IValue& returned) {
  if (returned.isTuple()) return parts_of_tuple(returned);
  std::vector<Part> parts;
  if (returned.isList()) {
    const auto list = returned.toList();
    for (size_t i = 0; i < list.size(); ++i) parts.push_back({{std::to_string(i)}, list.get(i)});
  } else if (returned.isGenericDict()) {
    for (const auto& entry : returned.toGenericDict())
      parts.push_back({{entry.key().isString() ? entry.key().toStringRef() : c10::str(entry.key())}, entry.value()});
  } else if (returned.isObject()) {
    const auto object = returned.toObject();
    for (size_t i = 0; i < object->type()->numAttributes(); ++i)
      parts.push_back({{object->type()->getAttributeName(i)}, object->getSlot(i)});
  }
  return parts;
}

std::string describe(const c10::IValue& value) {
  if (!value.isTensor() || !value.toTensor().defined()) return value.type()->annotation_str();
  return amalgam::describe(TensorInfo{value.toTensor().scalar_type(), value.toTensor().sizes().vec()});
}

/// "Dict[str, Tensor] with 'logits' (float32 [2, 3]), 'hidden' (float32 [2, 8])"
std::string describe(const c10::IValue& returned, const std::vector<Part>& parts) {
  std::vector<std::string> texts;
  for (const Part& part : parts) texts.push_back(fmt::format("'{}' ({})", part.names.front(), describe(part.value)));
  const auto type = returned.type()->annotation_str();
  return texts.empty() ? type : fmt::format("{} with {}", type, fmt::join(texts, ", "));
}

bool is_nothing(const Part& part) { return part.value.isNone(); }

}  // namespace

void require_arguments(const c10::FunctionSchema& schema, const Batch& batch, const std::string& origin) {
  std::vector<std::string> names;
  size_t most = 0;  // inputs by position
  for (size_t i = 1; i < schema.arguments().size(); ++i) {
    names.push_back(schema.arguments()[i].name());
    if (!schema.arguments()[i].kwarg_only()) ++most;
  }
  const size_t given = batch.inputs.size();
  require_input(given <= most || schema.is_vararg(),
                "{}: the data give {} inputs by position, and the model takes {} ({}); leave some out, or give them by "
                "their names",
                origin, given, most, fmt::join(names, ", "));
  for (const auto& [name, input] : batch.named_inputs) {
    const auto found = std::find(names.begin(), names.end(), name);
    require_input(found != names.end(), "{}: the model has no input '{}'{}", origin, name, suggestion(name, names));
    require_input(static_cast<size_t>(found - names.begin()) >= given,
                  "{}: the model's input '{}' is given twice, by name and as the input at position {}", origin, name,
                  found - names.begin());
  }
  for (size_t i = given; i < names.size(); ++i)
    require_input(schema.arguments()[i + 1].default_value().has_value() || batch.named_inputs.contains(names[i]),
                  "{}: the model's input '{}' is missing; give it as input.{}{}", origin, names[i], names[i],
                  i < most ? fmt::format(", or by position as input.{}", i) : "");
}

at::Tensor chosen_output(const c10::IValue& returned, const std::string& choice, const std::string& origin) {
  const std::vector<Part> parts = parts_of(returned);
  if (choice.empty()) {
    if (returned.isTensor()) return returned.toTensor();
    const auto only = std::find_if_not(parts.begin(), parts.end(), is_nothing);
    const bool single = only != parts.end() && std::all_of(only + 1, parts.end(), is_nothing);
    if (single && only->value.isTensor()) return only->value.toTensor();
    throw InputError(
        fmt::format("{}: the model returns {}; say which one tensor of it is the output, [N, classes] or "
                    "[N, T, classes], with the key `output` of the task",
                    origin, describe(returned, parts)));
  }
  const auto found = std::find_if(parts.begin(), parts.end(), [&](const Part& part) {
    return std::find(part.names.begin(), part.names.end(), choice) != part.names.end();
  });
  require_input(!parts.empty(), "{}: the model returns {} alone, so there is no '{}' in it; leave `output` out", origin,
                describe(returned), choice);
  require_input(found != parts.end(), "{}: there is no '{}' in what the model returns: {}", origin, choice,
                describe(returned, parts));
  require_input(found->value.isTensor(), "{}: '{}' of what the model returns is {}, no tensor: {}", origin, choice,
                describe(found->value), describe(returned, parts));
  return found->value.toTensor();
}

}  // namespace amalgam
