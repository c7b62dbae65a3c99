#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace amalgam {

enum class Split { kTrain, kVal, kTest };

/// "train", "val", "test".
const char* name_of(Split split);
/// @throws InputError for another word
Split split_from_name(const std::string& name);

/// Which of `count` training examples are in `part` (kTrain or kVal), ascending, where val is cut from train:
/// max(1, round(fraction · count)) examples drawn by `seed` alone, so that all tasks on one root keep the same examples
/// out of training, and a base that was trained on it has not seen them either. The two parts are disjoint and together
/// all.
/// @return empty for kVal if `fraction` is 0
std::vector<int64_t> cut_train(int64_t count, double fraction, uint64_t seed, Split part);

}  // namespace amalgam
