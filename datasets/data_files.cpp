#include "datasets/data_files.h"

#include "core/digest.h"

namespace amalgam {

const std::string& StoredExamples::digest() const {
  std::call_once(digest_made_, [this] {
    Digest digest;
    for (const at::Tensor& input : examples_.inputs) digest.add("input", input);
    for (const auto& [name, input] : examples_.named_inputs) digest.add("input." + name, input);
    digest.add("target", examples_.target);
    if (examples_.mask.defined()) digest.add("mask", examples_.mask);
    digest_ = digest.hex();
  });
  return digest_;
}

std::shared_ptr<const StoredExamples> DataFiles::read(const DataFormat& format, const std::filesystem::path& root,
                                                      Split split) {
  std::weak_ptr<const StoredExamples>& known = read_[{format.name, root, split}];
  auto stored = known.lock();
  if (!stored) known = stored = std::make_shared<const StoredExamples>(format.read(root, split));
  return stored;
}

}  // namespace amalgam
