// Telling tasks apart where each keeps a part of its own.
#include <ATen/core/grad_mode.h>

#include "apps/pipeline.h"
#include "core/error.h"
#include "core/task_parts.h"
#include "datasets/loader.h"
#include "solvers/task_router.h"

namespace amalgam {

using nlohmann::json;

namespace {

/// What a model gives for a source's examples: [N, C].
at::Tensor outputs_of(ModelRunner& model, BatchSource& source) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> outputs;
  for (Batch batch; source.next(batch);) outputs.push_back(model.forward(batch.to(model.device())).cpu());
  const at::Tensor all = at::cat(outputs);
  require_input(all.dim() == 2, "a router goes by outputs of one vector an example, and this model's have {} axes",
                all.dim());
  return all;
}

}  // namespace

/// Adds a router to the parts of a row's tasks. Its features are the outputs of the merged model, without any part,
/// under the private parameters of each task where there are some, one after the other (models/forward_source.h). It is
/// made of `MergeRow::router` examples of each task's `val`, and tried on as many others, where there are some.
/// @return the record: which share of these goes to its own task
json Pipeline::fit_router(const MergeRow& row, const Tasks& tasks, MergeOutcome& outcome) {
  const MemoryTensors merged(outcome.merged);
  const auto count = std::ssize(tasks), heads = recipe_.private_patterns.empty() ? 1 : count;
  terminal_.about(row.name);
  terminal_.begin("make the router", heads * count);
  std::vector<at::Tensor> features, task_of, is_tried;
  for (int64_t head = 0; head < heads; ++head) {  // one model in memory at a time
    const auto model = open_task_model(tasks[static_cast<size_t>(head)], {&merged});
    std::vector<at::Tensor> outputs;
    for (int64_t m = 0; m < count; ++m) {
      terminal_.update(head * count + m, "");
      const size_t i = tasks[static_cast<size_t>(m)];
      LoaderOptions loading;
      loading.batch = recipe_.evaluate.batch;
      loading.examples = 2 * row.router;
      loading.drawn = true;
      loading.seed = static_cast<uint64_t>(recipe_.seed);
      loading.label = "router/" + recipe_.tasks[i].name;
      Loader loader(dataset(i, Split::kVal), loading);
      outputs.push_back(outputs_of(*model, loader));
      if (head > 0) continue;
      const int64_t drawn = outputs.back().size(0);
      task_of.push_back(at::full({drawn}, m, at::kLong));
      is_tried.push_back(at::arange(drawn) >= row.router);
    }
    features.push_back(at::cat(outputs));
  }
  const at::Tensor all = at::cat(features, 1), task = at::cat(task_of), tried = at::cat(is_tried);
  const at::Tensor made_of = tried.logical_not().nonzero().view(-1);
  const TaskRouter router = fit_task_router(all.index_select(0, made_of), task.index_select(0, made_of), count);
  outcome.task_parts[kRouterWeight] = router.weight;
  outcome.task_parts[kRouterBias] = router.bias;
  outcome.task_parts[kRouterMean] = router.mean;
  outcome.task_parts[kRouterDeviation] = router.deviation;

  const at::Tensor right = router.shares(all).argmax(1).eq(task);
  json shares = json::object();
  for (int64_t m = 0; m < count; ++m)
    shares[recipe_.tasks[tasks[static_cast<size_t>(m)]].name] =
        right.masked_select(tried.logical_and(task.eq(m))).to(at::kDouble).mean().item<double>();
  terminal_.end("");
  return {{"examples", row.router}, {"right", shares}};
}

}  // namespace amalgam
