// A merge method of one's own, outside amalgam's tree: the whole command, with one more method.
#include <apps/command.h>
#include <solvers/methods/method.h>

namespace {

class Median final : public amalgam::ParameterMethod {
  at::Tensor merge_parameter(const amalgam::MergeInput& input, const std::string& name) override {
    std::vector<at::Tensor> values;
    for (const auto& expert : input.experts)
      values.push_back(amalgam::read_parameter(*expert.tensors, name, input.device));
    return std::get<0>(at::stack(values).median(0));
  }
};

const amalgam::RegisterMethod<Median> registered("median", "the middle value of the experts, element by element",
                                                 "this file");

}  // namespace

int main(int argc, char** argv) { return amalgam::run_command(argc, argv); }
