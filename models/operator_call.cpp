#include "models/operator_call.h"

#include <map>

#include "models/read_additions.h"
#include "models/read_convolution.h"
#include "models/read_norms.h"
#include "models/read_products.h"

namespace amalgam {
namespace {

using Reader = Reading (*)(Arguments, const ParameterMap&);

const std::map<std::string, Reader>& readers() {
  static const std::map<std::string, Reader> all = {
      {"aten::linear", read_linear},
      {"aten::addmm", read_added_product},
      {"aten::baddbmm", read_added_product},
      {"aten::mm", read_matmul},
      {"aten::matmul", read_matmul},
      {"aten::bmm", read_matmul},
      {"aten::einsum", read_einsum},
      {"aten::conv1d", read_convolution},
      {"aten::conv2d", read_convolution},
      {"aten::conv3d", read_convolution},
      {"aten::_convolution_mode", read_convolution},
      {"aten::_convolution", read_traced_convolution},
      {"aten::convolution", read_traced_convolution},
      {"aten::embedding", read_embedding},
      {"aten::layer_norm", read_layer_norm},
      {"aten::rms_norm", read_rms_norm},
      {"aten::group_norm", read_group_norm},
      {"aten::instance_norm", read_instance_norm},
      {"aten::batch_norm", read_batch_norm},
      {"aten::mul", read_multiplication},
      {"aten::mul_", read_multiplication_in_place},
      {"aten::multiply", read_multiplication},
      {"aten::add", read_addition},
      {"aten::add_", read_addition_in_place},
      {"aten::cat", read_cat},
      {"aten::concat", read_cat},
      {"aten::concatenate", read_cat},
      {"aten::repeat", read_repeat},
  };
  return all;
}

}  // namespace

Reading read_operator_call(const std::string& name, c10::ArrayRef<c10::IValue> arguments,
                           const ParameterMap& parameters) {
  const auto reader = readers().find(name);
  return reader == readers().end() ? Reading{} : reader->second(arguments, parameters);
}

}  // namespace amalgam
