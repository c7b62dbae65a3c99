// The same solves and merges on a GPU as on a CPU. Shown as skipped where there is no GPU.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <set>

#include "solvers/linear/cg_kernels.h"
#include "solvers/linear/direct.h"
#include "solvers/linear/kronecker_sum.h"
#include "solvers/linear/refinement.h"
#include "solvers/merge_case.h"

namespace amalgam {
namespace {

using test::MergeCase;
using test::RandomMatrices;

struct OnAGpu : testing::Test {
  void SetUp() override {
    if (!at::hasCUDA()) GTEST_SKIP() << "needs a GPU";
  }

  static KroneckerSum moved(const std::vector<KroneckerTerm>& terms, const std::array<int64_t, 3>& sizes,
                            at::Device device, at::ScalarType dtype) {
    std::vector<KroneckerTerm> there;
    for (const KroneckerTerm& term : terms) {
      const auto move = [&](const at::Tensor& factor) { return factor.defined() ? factor.to(device, dtype) : factor; };
      there.push_back({term.weight, move(term.output), move(term.input)});
    }
    return {sizes, there, at::TensorOptions(device).dtype(dtype)};
  }

  const at::Device gpu{at::kCUDA, 0};
  RandomMatrices random{31};
};

TEST_F(OnAGpu, ConjugateGradientsGiveWhatTheyGiveOnACpu) {
  // Small ones go in a batch, large ones one by one; the last term is an identity.
  for (const std::array<int64_t, 3>& sizes : {std::array<int64_t, 3>{3, 7, 9}, {2, 130, 131}}) {
    auto terms = random.terms(3, sizes[0], sizes[1], sizes[2]);
    terms.push_back({0.3, {}, {}});
    const at::Tensor rhs = random.normal(sizes), start = random.normal(sizes);
    CgOptions options;
    options.iterations = 3000;
    options.tolerance = 1e-12;
    for (const std::string& name : preconditioner_names()) {
      SCOPED_TRACE(fmt::format("{}x{}, {}", sizes[1], sizes[2], name));
      const KroneckerSum here = moved(terms, sizes, at::kCPU, at::kDouble),
                         there = moved(terms, sizes, gpu, at::kDouble);
      const Solution on_cpu = solve(here, rhs, start, make_preconditioner(name, here).get(), options),
                     on_gpu = solve(there, rhs.to(gpu), start.to(gpu), make_preconditioner(name, there).get(), options);
      for (const ItemSummary& item : on_gpu.items) EXPECT_TRUE(item.converged) << item.why;
      EXPECT_TRUE(on_gpu.history.is_cpu());
      // Both residuals are within the tolerance: the solutions are as near as the condition number (below 1e5) lets
      // them.
      EXPECT_LE(test::difference(on_gpu.x.cpu(), on_cpu.x), 2e5 * options.tolerance * on_cpu.x.norm().item<double>());
    }
  }
}

TEST_F(OnAGpu, ClosedFormAndRefinementGiveWhatTheyGiveOnACpu) {
  const std::array<int64_t, 3> sizes{2, 12, 17};
  const auto terms = random.terms(2, sizes[0], sizes[1], sizes[2]);
  const at::Tensor rhs = random.normal(sizes), start = random.normal(sizes);
  const KroneckerSum here = moved(terms, sizes, at::kCPU, at::kDouble), there = moved(terms, sizes, gpu, at::kDouble),
                     small = moved(terms, sizes, gpu, at::kFloat);
  const at::Tensor expected = solve_two_terms(here, rhs, start, 1e-10).x;
  const double close = 1e5 * 1e-10 * expected.norm().item<double>();
  EXPECT_LE(test::difference(solve_two_terms(there, rhs.to(gpu), start.to(gpu), 1e-10).x.cpu(), expected), close);
  CgOptions options;
  options.iterations = 3000;
  options.tolerance = 1e-10;
  const Solution refined = solve_refined(there, small, rhs.to(gpu), start.to(gpu),
                                         make_preconditioner("kronecker_trace", small).get(), options);
  EXPECT_TRUE(refined.items[0].converged) << refined.items[0].why;
  EXPECT_LE(test::difference(refined.x.cpu(), expected), close);
}

TEST_F(OnAGpu, KernelsGiveWhatTheyGiveOnACpu) {
  const at::Tensor a = random.normal({3, 5, 7}), b = random.normal({3, 5, 7}), c = random.normal({3, 5, 7}),
                   moves = at::tensor({1, 0, 1}, at::kLong).to(at::kBool), scalars = random.normal({3, 1, 1}).flatten();
  const auto run = [&](at::Device device) {
    at::Tensor x = a.to(device, at::kDouble, false, true), r = b.to(device, at::kDouble, false, true),
               p = c.to(device, at::kDouble, false, true);
    const at::Tensor squares = advance(x, r, p, a.to(device), scalars.to(device), moves.to(device));
    turn(p, b.to(device), scalars.to(device), moves.to(device));
    const at::Tensor product = dot(x, p, moves.to(device));
    return std::vector<at::Tensor>{x.cpu(), r.cpu(), p.cpu(), (squares * moves.to(device)).cpu(),
                                   (product * moves.to(device)).cpu()};
  };
  const auto here = run(at::kCPU), there = run(gpu);
  for (size_t i = 0; i < here.size(); ++i)
    EXPECT_LE(test::difference(there[i], here[i]), 35 * test::kEps64 * (1 + here[i].abs().max().item<double>())) << i;
}

/// Every method that merges from tensors and statistics alone, by its defaults. What runs the models or merges adapters
/// needs what `MergesAsOnACpu` has not, and so do these.
std::vector<std::string> methods_by_their_defaults() {
  const std::set<std::string> others = {
      "mats",         // may stop a step sooner or later: below it is solved to the end
      "passthrough",  // has to be told a task: below
      "layer_swap",   // needs blocks that are numbered; what it reads and averages, `passthrough` and `average` do
  };
  std::vector<std::string> names;
  for (const std::string& name : method_names()) {
    const MethodRequirements needs = make_method(name, {}, "merge")->requirements();
    if (!needs.runs_models() && !needs.adapters && !others.contains(name)) names.push_back(name);
  }
  return names;
}

struct MergesAsOnACpu : OnAGpu {
  /// @param rank  of the gradient Gram matrices of each task
  void expect_alike(const std::string& entry, int64_t rank = 9) const {
    SCOPED_TRACE(entry);
    MergeCase merge_case;
    merge_case.add(test::linear("fc", 5, 6, true));
    merge_case.add(test::linear("fc2", 5, 6, true));
    merge_case.add(test::convolution("conv", 6, 2, 3, 3, true));
    merge_case.parameter("norm", {4});
    merge_case.draw({"a", "b", "c"});
    merge_case.draw_gradient_grams(rank);
    if (make_method(YAML::Load(entry), "merge")->requirements().most_experts == 2) merge_case.weights[2] = 0.0;
    merge_case.build();
    const auto here = merge_case.merge(entry);
    merge_case.input.device = gpu;
    const auto there = merge_case.merge(entry);
    for (const auto& [name, tensor] : here.merged)
      EXPECT_LE(test::difference(there.merged.at(name), tensor), 1e-7 * (1 + tensor.abs().max().item<double>()))
          << name;
  }
};

TEST_F(MergesAsOnACpu, EveryMethodByItsDefaults) {
  for (const std::string& name : methods_by_their_defaults()) expect_alike(name);
}

TEST_F(MergesAsOnACpu, MethodsWithOptions) {
  const std::string solved = "tolerance: 1e-12, iterations: 3000";
  const std::vector<std::string> entries = {
      "{method: passthrough, expert: b}",
      "{method: ties, trim: tensor}",
      "{method: dare, inner: {method: mats, " + solved + "}}",
      "{method: aim, inner: ties}",
      "{method: aim, inner: regmean}",
      "{method: twin, inner: regmean}",
      "{method: sce, density: 0.4}",
      "{method: regmean, off_diagonal: 0.5}",
      "{method: data_free, form: mats, " + solved + "}",
      "{method: mats, " + solved + "}",
      "{method: mats, solver: direct}",
      "{method: mats, factors: available, normalise: fisher, " + solved + "}",
      "{method: mats, vectors: dense, " + solved + "}",
  };
  for (const std::string& entry : entries) expect_alike(entry);
}

TEST_F(MergesAsOnACpu, VectorsThatStayAtTheirStartWhereNoTaskSees) {
  // Three tasks of one example each see three of the norm's four directions.
  for (const char* init : {"base", "'expert:b'", "average", "task_arithmetic", "ties", "regmean"})
    expect_alike(fmt::format("{{method: mats, vectors: dense, off_diagonal: 1, damping: 0, init: {}, tolerance: 1e-12, "
                             "iterations: 3000}}",
                             init),
                 1);
}

}  // namespace
}  // namespace amalgam
