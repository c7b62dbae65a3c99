#include "solvers/methods/pieces.h"

#include <c10/util/accumulate.h>

#include <algorithm>
#include <memory>

namespace amalgam {
namespace {

constexpr int64_t kShare = 4096;  // of `group_bytes` in elements of a piece: 2^18 of 2^30

/// Some elements of one parameter.
class PieceSource final : public TensorSource {
 public:
  PieceSource(const TensorSource& source, const std::string& name) : source_(source) {
    infos_[name] = source.infos().at(name);
  }

  void move_to(int64_t begin, int64_t end) {
    begin_ = begin;
    end_ = end;
    infos_.begin()->second.shape = {end - begin};
  }

  const std::map<std::string, TensorInfo>& infos() const override { return infos_; }
  at::Tensor get(const std::string& name) const override {
    TORCH_CHECK(infos_.contains(name), "a piece of ", infos_.begin()->first, " holds no ", name);
    if (!whole_.defined()) whole_ = source_.get(name).reshape({-1});
    return whole_.slice(0, begin_, end_);
  }

 private:
  const TensorSource& source_;
  std::map<std::string, TensorInfo> infos_;
  mutable at::Tensor whole_;  // once somebody has asked
  int64_t begin_ = 0, end_ = 0;
};

/// An input of which one parameter is seen piece by piece.
class PieceInput {
 public:
  PieceInput(const MergeInput& input, const std::string& name) {
    const auto piece_of = [&](const TensorSource* whole) -> const TensorSource* {
      if (whole == nullptr || !whole->contains(name)) return nullptr;
      return sources_.emplace_back(std::make_unique<PieceSource>(*whole, name)).get();
    };
    input_.base = piece_of(input.base);
    for (const ExpertInput& expert : input.experts)
      input_.experts.push_back({expert.task, expert.weight, piece_of(expert.tensors)});
    input_.parameters = {name};
    input_.device = input.device;
    input_.seed = input.seed;
    input_.group_bytes = input.group_bytes;
  }

  const MergeInput& at(int64_t begin, int64_t end) {
    for (const auto& source : sources_) source->move_to(begin, end);
    return input_;
  }

 private:
  std::vector<std::unique_ptr<PieceSource>> sources_;
  MergeInput input_;
};

int64_t piece_elements(const MergeInput& input, int64_t count, int64_t unit) {
  if (!input.device.is_cpu()) return std::max(count, int64_t{1});
  return std::max(int64_t{1}, input.group_bytes / kShare / unit) * unit;
}

const TensorInfo& info_of(const MergeInput& input, const std::string& name) {
  return input.experts.front().tensors->infos().at(name);
}

}  // namespace

void for_each_piece(const MergeInput& input, const std::string& name, const TakePiece& take, int64_t unit) {
  const int64_t count = c10::multiply_integers(info_of(input, name).shape);
  const int64_t size = piece_elements(input, count, std::max(unit, int64_t{1}));
  PieceInput pieces(input, name);
  for (int64_t begin = 0; begin < count; begin += size) take(pieces.at(begin, std::min(begin + size, count)), begin);
}

at::Tensor merge_in_pieces(const MergeInput& input, const std::string& name, const MergePiece& merge, int64_t unit) {
  const TensorInfo& info = info_of(input, name);
  at::Tensor merged = at::empty(info.shape, at::TensorOptions(at::kCPU).dtype(info.dtype));
  const at::Tensor flat = merged.view({-1});
  const auto store = [&](const MergeInput& piece, int64_t first) {
    const at::Tensor value = merge(piece, first);
    flat.slice(0, first, first + value.numel()).copy_(value);
  };
  for_each_piece(input, name, store, unit);
  return merged;
}

}  // namespace amalgam
