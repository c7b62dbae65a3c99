#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "core/safetensors.h"

namespace amalgam {

/// What tasks keep beside the shared tensors of a merge, so that each has a model of its own, nearer to its expert, and
/// all of them together stay small. A source of parts holds, for the task "left" and a shared tensor "fc.weight", at
/// most one of
///
///   left/fc.weight.mask     uint8 [⌈n/8⌉], packed bits: the shared value where one is set, else the base's
///   left/fc.weight.lora_A   with left/fc.weight.lora_B: factors of what is added to it, as [rows, the rest]
///   left/fc.weight          a value in its place
///
/// and for each tensor with masks the base's value, base/fc.weight (core/packed_bits.h, core/low_rank.h). What a task
/// has no part of is as it is shared. Where a router tells tasks apart it is there, too, float64, by its features F and
/// the tasks M in the merged model's order (solvers/task_router.h):
///
///   router.weight [M, F], router.bias [M], router.mean [F], router.deviation [F]
enum class PartKind { kNone, kMask, kLowRank, kValue };

/// "left/fc.weight": of a value; of factors the weight that `down_name` and `up_name` take.
std::string part_name(const std::string& task, const std::string& tensor);
std::string mask_name(const std::string& task, const std::string& tensor);
/// Under which name the parts hold the base's value.
std::string base_part_name(const std::string& tensor);

inline constexpr const char *kRouterWeight = "router.weight", *kRouterBias = "router.bias",
                            *kRouterMean = "router.mean", *kRouterDeviation = "router.deviation";
bool has_router(const TensorSource& parts);

PartKind part_kind(const TensorSource& parts, const std::string& task, const std::string& tensor);

/// The shared tensor as the task has it, in the shared one's dtype. Factors are multiplied and added in float64.
/// @throws InputError if a mask is not of the tensor's size
at::Tensor with_part(const TensorSource& shared, const TensorSource& parts, const std::string& task,
                     const std::string& tensor);

/// The shared tensors as one task has them, each made when it is asked for.
class TaskTensors final : public TensorSource {
 public:
  /// Both sources must outlive this.
  TaskTensors(const TensorSource& shared, const TensorSource& parts, std::string task)
      : shared_(shared), parts_(parts), task_(std::move(task)) {}

  const std::map<std::string, TensorInfo>& infos() const override { return shared_.infos(); }
  at::Tensor get(const std::string& name) const override { return with_part(shared_, parts_, task_, name); }

 private:
  const TensorSource& shared_;
  const TensorSource& parts_;
  std::string task_;
};

/// Refuses parts that do not fit the shared tensors: unknown names, other shapes or dtypes, a factor without its other,
/// two kinds of part for one tensor, a mask without a base, a router that is not whole.
/// @param where  the file, for messages
/// @throws InputError
void check_parts(const TensorSource& shared, const TensorSource& parts, const std::string& where);

/// Writes parts with the digest of the shared tensors that they belong to, aside, synced, renamed.
/// @param about  what else to say in the file's metadata
void write_task_parts(const std::filesystem::path& path, const TensorSource& parts, const TensorSource& shared,
                      std::map<std::string, std::string> about);

/// Opens such a file.
/// @throws InputError if it is none, if it belongs to other shared tensors, or as `check_parts`
std::shared_ptr<const SafetensorsFile> open_task_parts(const std::filesystem::path& path, const TensorSource& shared);

}  // namespace amalgam
