#include "datasets/transforms.h"

#include "core/error.h"
#include "datasets/image_transforms.h"

namespace amalgam {

namespace {

OptionSet declared(ImageTransform& transform) {
  OptionSet set;
  transform.declare(set);
  return set;
}

/// Reads a one-key map.
std::unique_ptr<ImageTransform> read_transform(const YAML::Node& node, const std::string& where) {
  require_input(node.IsMap() && node.size() == 1 && node.begin()->first.IsScalar(),
                "{}: expected one transform and its value, such as {{rotate: 34}}", where);
  const std::string name = node.begin()->first.Scalar();
  std::vector<std::string> names;
  for (const auto& [known, make] : image_transforms()) names.push_back(known);
  const auto found = image_transforms().find(name);
  require_input(found != image_transforms().end(), "{}: there is no transform '{}'{}", where, name,
                suggestion(name, names));

  auto transform = found->second();
  declared(*transform).read(node, where);
  transform->validate(where);
  return transform;
}

}  // namespace

TransformSequence::TransformSequence() = default;
TransformSequence::~TransformSequence() = default;
TransformSequence::TransformSequence(TransformSequence&&) noexcept = default;
TransformSequence& TransformSequence::operator=(TransformSequence&&) noexcept = default;

TransformSequence::TransformSequence(std::vector<std::unique_ptr<ImageTransform>> transforms)
    : transforms_(std::move(transforms)) {
  set_streams(0, "");
}

void TransformSequence::set_streams(uint64_t seed, const std::string& label) {
  seed_ = seed;
  label_ = label;
  streams_.clear();
  for (size_t i = 0; i < transforms_.size(); ++i) streams_.emplace_back(seed, fmt::format("{}/transform {}", label, i));
}

std::string TransformSequence::identity() const {
  YAML::Emitter line;
  line.SetMapFormat(YAML::Flow);
  line << YAML::Flow << YAML::BeginSeq;
  bool draws = false;
  for (const auto& transform : transforms_) {
    line << declared(*transform).write();
    draws |= transform->draws();
  }
  line << YAML::EndSeq;
  return draws ? fmt::format("{} seed {} {}", line.c_str(), seed_, label_) : std::string(line.c_str());
}

at::Tensor TransformSequence::apply(at::Tensor images, const std::vector<int64_t>& ids, int64_t epoch) const {
  if (transforms_.empty()) return images;
  TORCH_CHECK(images.dim() == 4 && images.is_floating_point(), "transforms take floating images [N, C, H, W], not ",
              images.sizes(), " ", images.scalar_type());
  TORCH_CHECK(images.size(0) == static_cast<int64_t>(ids.size()), "one id an image");
  const at::ScalarType dtype = images.scalar_type();
  if (dtype != at::kDouble) images = images.to(at::kFloat);
  for (size_t i = 0; i < transforms_.size(); ++i) images = transforms_[i]->apply(images, {streams_[i], ids, epoch});
  return images.to(dtype);
}

TransformSequence parse_transforms(const YAML::Node& list, const std::string& where) {
  std::vector<std::unique_ptr<ImageTransform>> transforms;
  if (!list.IsDefined() || list.IsNull()) return {};
  require_list(list, where);
  for (size_t i = 0; i < list.size(); ++i)
    transforms.push_back(read_transform(list[i], fmt::format("{}[{}]", where, i)));
  return TransformSequence(std::move(transforms));
}

std::vector<OptionSet::Description> describe_transforms() {
  std::vector<OptionSet::Description> all;
  for (const auto& [name, make] : image_transforms()) all.push_back(declared(*make()).describe().front());
  return all;
}

}  // namespace amalgam
