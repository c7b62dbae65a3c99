#include "apps/recipe_training.h"

#include "core/error.h"
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

}  // namespace amalgam
