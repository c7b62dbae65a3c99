#include "solvers/plan_reads.h"

#include <fmt/format.h>

#include "solvers/tensor_bytes.h"

namespace amalgam {
namespace {

constexpr double kMegabyte = 1e6;

}  // namespace

PlanReads::PlanReads(MergeInput& input, Progress& progress) : progress_(progress) {
  for (size_t m = 0; m < input.experts.size(); ++m) {
    const TensorSource*& tensors = input.experts[m].tensors;
    for (const std::string& name : input.parameters) total_ += bytes_of(tensors->infos().at(name));
    sources_.push_back(
        std::make_unique<ObservedTensors>(*tensors, [this, m, source = tensors](const std::string& name) {
          if (planning_ && source->contains(name)) count(m, name, bytes_of(source->infos().at(name)));
        }));
    tensors = sources_.back().get();
  }
}

void PlanReads::during(const std::function<void()>& plan) {
  planning_ = true;
  passes_ = 0;
  plan();
  planning_ = false;
}

void PlanReads::count(size_t expert, const std::string& name, double bytes) {
  if (passes_ == 0 || read_.contains({expert, name})) {
    read_.clear();
    done_ = 0;
    progress_.begin(fmt::format("plan, pass {}, MB", ++passes_), static_cast<int64_t>(total_ / kMegabyte));
  }
  read_.insert({expert, name});
  progress_.update(static_cast<int64_t>(done_ / kMegabyte), name);
  done_ += bytes;
}

}  // namespace amalgam
