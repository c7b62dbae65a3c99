#include "datasets/union_dataset.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "core/digest.h"
#include "core/error.h"

namespace amalgam {

namespace {

std::string describe_inputs(const Batch& batch) {
  std::string text;
  for (const at::Tensor& input : batch.inputs)
    text += fmt::format("{}{} [{}]", text.empty() ? "" : ", ", c10::toString(input.scalar_type()),
                        fmt::join(input.sizes().slice(1), ", "));
  return text;
}

}  // namespace

UnionDataset::UnionDataset(std::vector<std::unique_ptr<Dataset>> parts, const std::vector<std::string>& names)
    : parts_(std::move(parts)) {
  TORCH_CHECK(!parts_.empty() && parts_.size() == names.size(), parts_.size(), " parts, ", names.size(), " names");
  const std::string expected = describe_inputs(parts_[0]->get({0}));
  for (size_t p = 0; p < parts_.size(); ++p) {
    const Batch first = parts_[p]->get({0});
    require_input(first.target.dim() == 1 && first.target.scalar_type() == at::kLong,
                  "{}: a union is of examples with one class label each, and these have other targets", names[p]);
    require_input(first.named_inputs.empty() && !first.mask.defined(),
                  "{}: a union is of examples with inputs by position and no mask", names[p]);
    require_input(describe_inputs(first) == expected,
                  "{}: an example is {}, one of {} is {}; a union needs one shape (of images: `transforms: [{{resize: "
                  "side}}]`)",
                  names[p], describe_inputs(first), names[0], expected);
    first_example_.push_back(first_example_.back() + parts_[p]->size());
    first_class_.push_back(first_class_.back() + parts_[p]->classes());
  }
}

bool UnionDataset::holds_images() const { return parts_[0]->holds_images(); }

Batch UnionDataset::get(const std::vector<int64_t>& ids) const {
  std::vector<std::vector<int64_t>> of_part(parts_.size()), places(parts_.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    TORCH_CHECK_INDEX(ids[i] >= 0 && ids[i] < size(), "example ", ids[i], " of a union of ", size());
    const auto part =
        static_cast<size_t>(std::ranges::upper_bound(first_example_, ids[i]) - first_example_.begin() - 1);
    of_part[part].push_back(ids[i] - first_example_[part]);
    places[part].push_back(static_cast<int64_t>(i));
  }
  const auto count = static_cast<int64_t>(ids.size());
  Batch all;
  all.count = count;
  all.ids = at::tensor(ids, at::kLong);
  all.target = at::empty({count}, at::kLong);
  for (size_t p = 0; p < parts_.size(); ++p) {
    if (of_part[p].empty()) continue;
    const Batch some = parts_[p]->get(of_part[p]);
    const at::Tensor rows = at::tensor(places[p], at::kLong);
    all.target.index_copy_(0, rows, some.target + first_class_[p]);
    for (size_t k = 0; k < some.inputs.size(); ++k) {
      if (all.inputs.size() == k) {
        auto shape = some.inputs[k].sizes().vec();
        shape[0] = count;
        all.inputs.push_back(at::empty(shape, some.inputs[k].options()));
      }
      all.inputs[k].index_copy_(0, rows, some.inputs[k]);
    }
  }
  return all;
}

const std::string& UnionDataset::digest() const {
  std::call_once(digest_made_, [this] {
    Digest digest;
    digest.add("amalgam union of data sets 1\n");
    for (const auto& part : parts_) digest.add(fmt::format("{} {}\n", part->digest(), part->classes()));
    digest_ = digest.hex();
  });
  return digest_;
}

}  // namespace amalgam
