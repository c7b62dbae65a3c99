#include "apps/recipe_training.h"

#include <algorithm>

#include "core/error.h"
#include "core/patterns.h"
#include "datasets/transforms.h"

namespace amalgam {

void check_training_data(const TrainSpec& spec, const Dataset& data, const std::string& where) {
  require_input(spec.finetune.batch <= data.size(),
                "{}.batch: the {} examples of the train split do not fill one batch of {}; give a smaller batch", where,
                data.size(), spec.finetune.batch);
  require_input(parse_transforms(spec.augment, where + ".augment").empty() || data.holds_images(),
                "{}.augment: it takes images, byte or floating [N, C, H, W], as the first input, and the data hold "
                "others; leave it out",
                where);
}

void check_trainable(const TrainSpec& spec, const std::vector<std::string>& parameters, const std::string& where) {
  for (const auto& pattern : spec.finetune.trainable)
    require_input(
        std::ranges::any_of(parameters, [&](const std::string& name) { return matches_any({pattern}, name); }),
        "{}.trainable: no parameter of the model is called '{}'; its parameters are {}, …", where, pattern,
        parameters.front());
}

}  // namespace amalgam
