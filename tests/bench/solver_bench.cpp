// Solves the systems of a run's layers in every way and prints what it took, as JSON lines: tests/bench/solver_bench.sh
// makes the tables of docs/solvers.md from them.
//   solver_bench RUN [ITEMS] [FILE] [EXPERTS] [DEVICE] [SHAPES]
// of at most ITEMS layers of each shape, the first EXPERTS tasks (0: all), on DEVICE (cpu), of the first SHAPES shapes
// (0: all); FILE gets the systems, for other solvers to try.
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <set>

#include "core/safetensors.h"
#include "solvers/grouping.h"
#include "solvers/linear/direct.h"
#include "solvers/linear/preconditioner.h"
#include "solvers/linear/refinement.h"
#include "solvers/methods/mats_factors.h"

namespace amalgam {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr double kTimeLimit = 4;  // seconds a solve
constexpr int64_t kIterations = 3000;

double seconds_of(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

/// The experts and statistics of a finished run.
struct Run {
  explicit Run(const fs::path& folder) {
    base = std::make_unique<SafetensorsFile>(folder / "tensors" / "base.safetensors");
    for (const auto& entry : fs::directory_iterator(folder / "statistics")) {
      if (entry.path().extension() != ".safetensors") continue;
      const std::string task = entry.path().stem();
      tensors.push_back(std::make_unique<SafetensorsFile>(folder / "tensors" / (task + ".safetensors")));
      statistics.push_back(std::make_unique<Statistics>(Statistics::load(entry.path())));
      input.experts.push_back({task, 1.0, tensors.back().get(), statistics.back().get()});
    }
    input.base = base.get();
    input.layers = statistics.front()->header().layers;
    for (const auto& [name, info] : base->infos()) input.parameters.push_back(name);
  }

  std::unique_ptr<SafetensorsFile> base;
  std::vector<std::unique_ptr<SafetensorsFile>> tensors;
  std::vector<std::unique_ptr<Statistics>> statistics;
  MergeInput input;
};

/// One group of layers, made ready.
struct System {
  System(const MergeInput& input, const std::vector<LayerMatrix>& layers, const FactorOptions& options)
      : factors(input, layers, options, [] {}),
        batch(factors.batch()),
        name(fmt::format("{}x{} {}", batch.rows(), batch.columns(), layers.front().layer().name)),
        op(factors.whole(at::kDouble)),
        small(factors.whole(at::kFloat)),
        rhs(factors.right_hand_side(batch.reference(at::kDouble))),
        start(at::zeros_like(rhs)) {}

  json line(const std::string& kind) const {
    return {{"kind", kind},
            {"group", name},
            {"items", batch.items()},
            {"rows", batch.rows()},
            {"columns", batch.columns()}};
  }

  MatsSystem factors;
  const LayerBatch& batch;
  std::string name;
  std::unique_ptr<LinearOperator> op, small;
  at::Tensor rhs, start;
};

double true_residual(const System& system, const at::Tensor& x) {
  at::Tensor image = at::empty_like(system.rhs);
  system.op->apply(x.to(at::kDouble), image);
  const auto norm = [](const at::Tensor& of) { return at::linalg_vector_norm(of, 2, at::IntArrayRef{1, 2}); };
  return (norm(system.rhs - image) / norm(system.rhs)).max().item<double>();
}

void solve_line(const System& system, double damping, const std::string& preconditioner, const std::string& precision,
                double tolerance) {
  CgOptions options;
  options.iterations = kIterations;
  options.tolerance = tolerance;
  options.time_limit = kTimeLimit;
  std::unique_ptr<Preconditioner> inverse;
  Solution solution;
  const LinearOperator& products = precision == "float64" ? *system.op : *system.small;
  const double setup = seconds_of([&] {
    if (preconditioner != "direct") inverse = make_preconditioner(preconditioner, products);
  });
  const double solving = seconds_of([&] {
    if (preconditioner == "direct")
      solution = solve_two_terms(*system.op, system.rhs, system.start, tolerance);
    else if (precision == "mixed")
      solution = solve_refined(*system.op, *system.small, system.rhs, system.start, inverse.get(), options);
    else if (precision == "float32")
      solution = solve(*system.small, system.rhs.to(at::kFloat), system.start.to(at::kFloat), inverse.get(), options);
    else
      solution = solve(*system.op, system.rhs, system.start, inverse.get(), options);
  });
  int64_t iterations = 0;
  bool converged = true;
  std::string why;
  for (const ItemSummary& item : solution.items) {
    if (converged) why = item.why;
    iterations = std::max(iterations, item.iterations);
    converged = converged && item.converged;
  }
  json line = system.line("solve");
  line.update({{"damping", damping},
               {"preconditioner", preconditioner},
               {"precision", precision},
               {"tolerance", tolerance},
               {"iterations", iterations},
               {"converged", converged},
               {"why", why},
               {"setup", setup},
               {"seconds", setup + solving},
               {"residual", true_residual(system, solution.x)}});
  std::cout << line.dump() << std::endl;
}

/// An iteration against plain products of the same shapes, side by side.
void share_line(const System& system, const std::string& preconditioner, const std::string& precision) {
  const LinearOperator& op = precision == "float64" ? *system.op : *system.small;
  const at::Tensor rhs = system.rhs.to(op.options()), start = system.start.to(op.options());
  const auto inverse = make_preconditioner(preconditioner, op);
  const int64_t rows = system.batch.rows(), columns = system.batch.columns(), items = system.batch.items();
  const auto experts = static_cast<int64_t>(op.kronecker_terms().size());
  const at::Tensor left = at::randn({rows, rows}, op.options()), right = at::randn({columns, columns}, op.options()),
                   x = at::randn({rows, columns}, op.options());
  at::Tensor out = at::empty_like(x);
  const int64_t products = experts + (preconditioner == "none"                                 ? 0
                                      : preconditioner == "two_term" || precision != "float64" ? 2
                                                                                               : 1);
  CgOptions options;
  options.tolerance = 0;
  const auto solve_for = [&](int64_t iterations) {
    options.iterations = iterations;
    return seconds_of([&] { solve(op, rhs, start, inverse.get(), options); });
  };
  constexpr int64_t kSteps = 10;
  std::vector<double> iteration, plain;
  solve_for(1);
  for (int repetition = 0; repetition < 5; ++repetition) {
    iteration.push_back((solve_for(1 + kSteps) - solve_for(1)) / static_cast<double>(kSteps));
    plain.push_back(seconds_of([&] {
      for (int64_t i = 0; i < items * products; ++i) {
        at::mm_out(out, left, x);
        at::mm_out(out, x, right);
      }
      out.sum().item<double>();  // waits for the device
    }));
  }
  json line = system.line("share");
  line.update({{"preconditioner", preconditioner},
               {"precision", precision},
               {"iteration", median(iteration)},
               {"plain", median(plain)},
               {"share", median(plain) / median(iteration)}});
  std::cout << line.dump() << std::endl;
}

void write(const System& system, double damping, NamedTensors& tensors) {
  const auto terms = system.op->kronecker_terms();
  for (int64_t item = 0; item < system.batch.items(); ++item) {
    const std::string name = fmt::format("{}|{}|{}", system.name, damping, item);
    for (size_t m = 0; m < terms.size(); ++m) {
      tensors[fmt::format("{}|A{}", name, m)] = terms[m].input[item].cpu().clone();
      tensors[fmt::format("{}|B{}", name, m)] = (terms[m].output[item] * terms[m].weight).cpu();
    }
    tensors[name + "|rhs"] = system.rhs[item].cpu().clone();
  }
}

void measure(const System& system, double damping) {
  for (const double tolerance : {1e-3, 1e-5, 1e-8}) {
    for (const std::string& preconditioner : preconditioner_names())
      solve_line(system, damping, preconditioner, "float64", tolerance);
    for (const char* precision : {"mixed", "float32"})
      solve_line(system, damping, "kronecker_trace", precision, tolerance);
    if (system.factors.has_closed_form()) solve_line(system, damping, "direct", "float64", tolerance);
  }
}

/// A figure of /proc/self/status in bytes.
int64_t status_bytes(const std::string& name) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(name + ":")) return 1024 * std::stoll(line.substr(name.size() + 1));
  return 0;
}

/// The most memory that a group's merge takes beside what was there before it, against the bound that groups are formed
/// by.
void memory_line(const Run& run, const MergeGroup& group) {
  const auto method = make_method(YAML::Load("mats"), "bench");
  method->plan(run.input);
  int64_t bound = 0;
  for (const LayerMatrix& layer : group.layers) bound += working_bytes(layer, run.input.experts.size());
  std::ofstream("/proc/self/clear_refs") << "5";  // the high-water mark starts anew
  const int64_t before = status_bytes("VmRSS");
  method->merge_group(run.input, group, [] {});
  const LayerMatrix& first = group.layers.front();
  std::cout << json{{"kind", "memory"},
                    {"group", fmt::format("{}x{} {}", first.rows(), first.columns(), first.layer().name)},
                    {"items", group.layers.size()},
                    {"bound", bound},
                    {"peak", status_bytes("VmHWM") - before}}
                   .dump()
            << std::endl;
}

void run(const fs::path& folder, int64_t items, const fs::path& file, size_t experts, const std::string& device,
         size_t most_shapes) {
  Run of(folder);
  of.input.device = at::Device(device);
  if (experts > 0) of.input.experts.resize(std::min(experts, of.input.experts.size()));
  const auto method = make_method(YAML::Load("mats"), "bench");
  of.input.group_bytes = int64_t{1} << 40;
  const Grouping grouping = form_groups(*method, of.input);
  NamedTensors systems;
  std::set<std::pair<int64_t, int64_t>> shapes;
  for (const MergeGroup& group : grouping.groups) {
    if (most_shapes > 0 && shapes.size() == most_shapes) break;
    if (!shapes.emplace(group.layers.front().rows(), group.layers.front().columns()).second) continue;
    memory_line(of, group);
    const auto count = std::min<size_t>(group.layers.size(), static_cast<size_t>(items));
    const std::vector<LayerMatrix> layers(group.layers.begin(),
                                          group.layers.begin() + static_cast<std::ptrdiff_t>(count));
    for (const double damping : {0.0, 1.0}) {
      FactorOptions options;
      options.damping = damping;
      const System system(of.input, layers, options);
      if (!file.empty()) write(system, damping, systems);
      measure(system, damping);
      if (damping == 1.0)
        for (const char* precision : {"float64", "float32"})
          for (const char* preconditioner : {"none", "kronecker_trace"}) share_line(system, preconditioner, precision);
    }
  }
  if (!file.empty()) write_safetensors(file, systems, {});
}

}  // namespace
}  // namespace amalgam

int main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "solver_bench RUN [ITEMS] [FILE] [EXPERTS] [DEVICE] [SHAPES]\n";
    return 2;
  }
  const at::NoGradGuard no_grad;
  amalgam::run(argv[1], argc > 2 ? std::stoll(argv[2]) : 3, argc > 3 ? argv[3] : "", argc > 4 ? std::stoul(argv[4]) : 0,
               argc > 5 ? argv[5] : "cpu", argc > 6 ? std::stoul(argv[6]) : 0);
  return 0;
}
