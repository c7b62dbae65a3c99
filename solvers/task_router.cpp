#include "solvers/task_router.h"

#include <torch/optim/lbfgs.h>

#include "core/error.h"

namespace amalgam {

at::Tensor TaskRouter::shares(const at::Tensor& features) const {
  return at::softmax(((features.to(at::kDouble) - mean) / deviation).mm(weight.t()) + bias, 1);
}

TaskRouter fit_task_router(const at::Tensor& features, const at::Tensor& task, int64_t tasks,
                           const RouterOptions& options) {
  TORCH_CHECK(features.dim() == 2 && features.size(0) > 0 && task.sizes() == at::IntArrayRef{features.size(0)},
              "fit_task_router: features [N, F] and a task each, not ", features.sizes(), " and ", task.sizes());
  const at::Tensor exact = features.to(at::kDouble).cpu(), targets = task.cpu();
  require_input(exact.isfinite().all().item<bool>(),
                "the router goes by the shared model's outputs, and one is not finite");
  TaskRouter router;
  router.mean = exact.mean(0);
  router.deviation = (exact - router.mean).square().mean(0).sqrt();
  // What is constant but for rounding says nothing.
  const at::Tensor changes = router.deviation > 1e-12 * exact.abs().amax(0);
  router.deviation = at::where(changes, router.deviation, at::ones_like(router.deviation));
  const at::Tensor standard = (exact - router.mean) / router.deviation * changes.to(at::kDouble);

  const at::AutoGradMode with_gradients(true);
  at::Tensor weight = at::zeros({tasks, standard.size(1)}, exact.options()).requires_grad_(true);
  at::Tensor bias = at::zeros({tasks}, exact.options()).requires_grad_(true);
  const auto loss = [&] {
    return at::cross_entropy_loss(standard.mm(weight.t()) + bias, targets) +
           weight.square().sum() * (options.penalty / 2);
  };
  torch::optim::LBFGS search({weight, bias}, torch::optim::LBFGSOptions(1.0)
                                                 .max_iter(options.iterations)
                                                 .max_eval(options.iterations * 2)
                                                 .tolerance_grad(options.tolerance)
                                                 .tolerance_change(0)
                                                 .history_size(20)
                                                 .line_search_fn("strong_wolfe"));
  search.step([&] {
    search.zero_grad();
    const at::Tensor value = loss();
    value.backward();
    return value;
  });
  search.zero_grad();
  loss().backward();
  const double gradient = at::maximum(weight.grad().abs().max(), bias.grad().abs().max()).item<double>();
  require_input(gradient <= options.tolerance * 10,
                "the router was not found in {} steps: its gradient is still {:.1e}; take other examples, or leave "
                "`router` out",
                options.iterations, gradient);
  router.weight = weight.detach();
  router.bias = bias.detach() - bias.detach().mean();
  return router;
}

}  // namespace amalgam
