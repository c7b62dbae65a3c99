#include "apps/model_check.h"

#include <ATen/core/grad_mode.h>

#include "apps/collect_task.h"
#include "core/error.h"
#include "models/loss.h"

namespace amalgam {

void check_output(const std::function<std::unique_ptr<ModelRunner>()>& open, const TaskSpec& task, const Dataset& data,
                  at::Device device) {
  const at::NoGradGuard no_grad;
  try {
    const auto model = open();
    model->set_training(false);
    const Batch examples = scan_examples(data).to(device);
    const at::Tensor output = model->forward(examples);
    example_losses(task.loss, output, examples.target);
    const auto classes = task.loss.kind() == LossSpec::Kind::kCrossEntropy ? output.size(-1) : data.classes();
    require_input(data.classes() <= classes,
                  "target {} of the data is outside the model's {} classes (0 to {}); check the labels, or the number "
                  "of classes of the model",
                  data.classes() - 1, classes, classes - 1);
  } catch (const InputError& error) {
    throw InputError(fmt::format("tasks.{}: {}", task.name, error.what()));
  }
}

}  // namespace amalgam
