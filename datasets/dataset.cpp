#include "datasets/dataset.h"

#include <fmt/ostream.h>

#include <algorithm>
#include <numeric>

#include "core/digest.h"
#include "core/error.h"

namespace amalgam {

namespace {

/// No label of a real data set is as large; one that is comes from a broken or a foreign file.
constexpr int64_t kMostClasses = int64_t{1} << 20;

bool is_byte_image(const at::Tensor& input) { return input.scalar_type() == at::kByte && input.dim() == 4; }

/// Whether transforms can take it, perhaps after the bytes became floating.
bool is_image(const at::Tensor& input) {
  return is_byte_image(input) || (input.dim() == 4 && input.is_floating_point());
}

at::Tensor as_index(const std::vector<int64_t>& values) { return at::tensor(values, at::kLong); }

std::vector<int64_t> first_numbers(int64_t count) {
  std::vector<int64_t> numbers(static_cast<size_t>(count));
  std::iota(numbers.begin(), numbers.end(), int64_t{0});
  return numbers;
}

bool is_class_target(const at::Tensor& target) { return target.scalar_type() == at::kLong && target.dim() == 1; }

/// Integer targets [N] are labels from 0; in [N, T] negative ones stand for "ignored".
void require_labels(const at::Tensor& target, const std::string& origin) {
  if (target.scalar_type() != at::kLong) return;
  const int64_t low = target.min().item<int64_t>(), high = target.max().item<int64_t>();
  const bool sound = (low >= 0 || !is_class_target(target)) && high < kMostClasses;
  if (sound) return;
  const int64_t wrong = high >= kMostClasses ? high : low;
  const int64_t row = target.flatten().eq(wrong).nonzero()[0].item<int64_t>() / (target.numel() / target.size(0));
  throw InputError(fmt::format("{}: example {} has the label {}; class labels go from 0 to at most {}", origin, row,
                               wrong, kMostClasses - 1));
}

constexpr const char* kAttentionMask = "attention_mask";

/// The rows that count where the data do not say so; undefined where all do.
at::Tensor derived_mask(const Batch& batch) {
  at::Tensor mask;
  const auto attention = batch.named_inputs.find(kAttentionMask);
  if (attention != batch.named_inputs.end() && attention->second.dim() == 2) {
    mask = attention->second.ne(0);
  } else if (batch.target.dim() == 2 && batch.target.scalar_type() == at::kLong) {
    mask = batch.target.ge(0);
  }
  return mask.defined() && mask.all().item<bool>() ? at::Tensor() : mask;
}

/// Cuts off the positions after the last one that counts in any example, but the first.
void trim_padding(Batch& batch) {
  const int64_t length = batch.mask.size(1);
  const at::Tensor places = batch.mask.any(0).nonzero();
  const int64_t kept = places.numel() > 0 ? places.max().item<int64_t>() + 1 : 1;
  if (kept == length) return;
  const auto cut = [&](at::Tensor& tensor) {
    if (tensor.dim() >= 2 && tensor.size(1) == length) tensor = tensor.narrow(1, 0, kept).contiguous();
  };
  for (at::Tensor& input : batch.inputs) cut(input);
  for (auto& [name, input] : batch.named_inputs) cut(input);
  cut(batch.target);
  cut(batch.mask);
}

/// One number of classes for all splits, so that a label that only `test` has gets a place as well.
int64_t count_classes(const DataFormat& format, const std::string& root) {
  int64_t classes = 0;
  for (const Split split : {Split::kTrain, Split::kVal, Split::kTest}) {
    if (!format.has(root, split)) continue;
    const at::Tensor target = format.read_target(root, split);
    require_labels(target, fmt::format("{} ({} split)", root, name_of(split)));
    if (target.scalar_type() == at::kLong) classes = std::max(classes, target.max().item<int64_t>() + 1);
  }
  return classes;
}

/// Keeps the rows of `spec.classes`.
/// @return the target with their new labels, -1 for the others
at::Tensor keep_classes(const DataSpec& spec, const Examples& examples, std::vector<int64_t>& rows, bool is_train) {
  require_input(is_class_target(examples.target),
                "{}: `classes` picks examples by an integer target [N], but the target is {} {}", examples.origin,
                c10::toString(examples.target.scalar_type()), fmt::streamed(examples.target.sizes()));
  at::Tensor relabelled = at::full_like(examples.target, -1);
  for (size_t k = 0; k < spec.classes.size(); ++k) {
    const at::Tensor chosen = examples.target == spec.classes[k];
    require_input(!is_train || chosen.any().item<bool>(), "{}: no example has the label {} that `classes` names",
                  examples.origin, spec.classes[k]);
    relabelled.masked_fill_(chosen, static_cast<int64_t>(k));
  }
  const auto labels = relabelled.accessor<int64_t, 1>();
  std::erase_if(rows, [&](int64_t row) { return labels[row] < 0; });
  return relabelled;
}

void check_spec(const DataSpec& spec, const std::string& where) {
  require_input(!spec.root.empty(), "{}.root: missing; give the folder that holds the data", where);
  std::error_code error;
  const bool folder = std::filesystem::is_directory(spec.root, error);
  require_input(folder, "{}.root: {}: {}", where, spec.root, error ? error.message() : "is not a folder");
  for (size_t i = 0; i < spec.classes.size(); ++i)
    require_input(std::find(spec.classes.begin(), spec.classes.end(), spec.classes[i]) ==
                      spec.classes.begin() + static_cast<int64_t>(i),
                  "{}.classes: {} stands there twice", where, spec.classes[i]);
}

void require_transformable(const Examples& examples, const TransformSequence& transforms) {
  if (transforms.empty()) return;
  require_input(!examples.inputs.empty(), "{}: transforms take images as input.0, and there is none", examples.origin);
  const at::Tensor& first = examples.inputs[0];
  require_input(is_image(first),
                "{}: transforms take images, byte or floating [N, C, H, W], as the first input, but it is {} {}",
                examples.origin, c10::toString(first.scalar_type()), fmt::streamed(first.sizes()));
}

/// Whether val is to be cut from train.
bool cuts_val(const DataSpec& spec, const DataFormat& format) { return !format.has(spec.root, Split::kVal); }

/// The split whose files hold the examples of `split`.
Split file_split(const DataSpec& spec, const DataFormat& format, Split split) {
  if (split != Split::kVal || !cuts_val(spec, format)) return split;
  require_input(spec.val_fraction > 0, "{}: there are no val files, and val_fraction is 0; give either", spec.root);
  return Split::kTrain;
}

}  // namespace

StoredDataset::StoredDataset(std::shared_ptr<const StoredExamples> stored, std::vector<int64_t> rows, at::Tensor target,
                             TransformSequence transforms, int64_t classes, bool masked, bool trim_padding)
    : stored_(std::move(stored)),
      rows_(std::move(rows)),
      target_(std::move(target)),
      transforms_(std::move(transforms)),
      classes_(classes),
      masked_(masked),
      trim_padding_(trim_padding) {}

std::vector<int64_t> Dataset::input_shape(size_t input) const {
  const Batch first = get({0});
  require_input(input < first.inputs.size(), "there is no input.{}: the examples have {} by position", input,
                first.inputs.size());
  return first.inputs[input].sizes().slice(1).vec();
}

bool StoredDataset::holds_images() const {
  const Examples& stored = stored_->get();
  return !stored.inputs.empty() && is_image(stored.inputs[0]);
}

Batch StoredDataset::get(const std::vector<int64_t>& ids) const {
  std::vector<int64_t> rows;
  rows.reserve(ids.size());
  for (const int64_t id : ids) {
    TORCH_CHECK_INDEX(id >= 0 && id < size(), "example ", id, " of a split of ", size());
    rows.push_back(rows_[static_cast<size_t>(id)]);
  }
  const at::Tensor index = as_index(rows);
  const Examples& stored = stored_->get();
  Batch batch;
  batch.count = static_cast<int64_t>(ids.size());
  batch.ids = as_index(ids);
  batch.target = target_.index_select(0, index);
  const auto chosen = [&](const at::Tensor& all) {
    const at::Tensor input = all.index_select(0, index);
    return is_byte_image(input) ? input.to(at::kFloat).div_(255) : input;
  };
  for (const at::Tensor& all : stored.inputs) batch.inputs.push_back(chosen(all));
  for (const auto& [name, all] : stored.named_inputs) batch.named_inputs.emplace(name, chosen(all));
  batch.mask = stored.mask.defined() ? stored.mask.index_select(0, index) : derived_mask(batch);
  if (trim_padding_ && batch.mask.defined() && batch.mask.dim() == 2) trim_padding(batch);
  if (!masked_) batch.mask = at::Tensor();
  if (!transforms_.empty()) batch.inputs[0] = transforms_.apply(batch.inputs[0], ids);
  return batch;
}

const std::string& StoredDataset::digest() const {
  std::call_once(digest_made_, [this] { digest_ = make_digest(); });
  return digest_;
}

std::string StoredDataset::make_digest() const {
  const at::Tensor rows = as_index(rows_);
  Digest digest;
  digest.add("amalgam data set 1\n" + stored_->digest() + "\n" + transforms_.identity() + "\n");
  digest.add(masked_ ? "" : "no mask\n");
  digest.add(trim_padding_ ? "trimmed\n" : "");
  digest.add("rows", rows);
  digest.add("target", target_.index_select(0, rows));
  return digest.hex();
}

void check_data(const DataSpec& spec, const std::vector<Split>& splits, const std::string& where) {
  check_spec(spec, where);
  const DataFormat& format = data_format(spec.format);
  parse_transforms(spec.transforms, where + ".transforms");
  for (const Split split : splits) format.check(spec.root, file_split(spec, format, split));
}

std::unique_ptr<Dataset> open_dataset(const DataSpec& spec, Split split, uint64_t seed, const std::string& label,
                                      DataFiles& files) {
  check_spec(spec, label + ".data");
  const DataFormat& format = data_format(spec.format);
  TransformSequence transforms = parse_transforms(spec.transforms, label + ".data.transforms");
  transforms.set_streams(seed, fmt::format("{}/{}", label, name_of(split)));

  const Split source = file_split(spec, format, split);
  auto stored = files.read(format, spec.root, source);
  const Examples& examples = stored->get();
  require_labels(examples.target, examples.origin);
  require_transformable(examples, transforms);

  const bool cut = source == Split::kTrain && cuts_val(spec, format);
  const int64_t count = examples.count();
  auto rows = cut ? cut_train(count, spec.val_fraction, seed, split) : first_numbers(count);
  const bool keep_all = spec.classes.empty();
  at::Tensor target = keep_all ? examples.target : keep_classes(spec, examples, rows, source == Split::kTrain);
  if (spec.max_examples > 0 && static_cast<int64_t>(rows.size()) > spec.max_examples)
    rows.resize(static_cast<size_t>(spec.max_examples));
  require_input(!rows.empty(), "{}: no example of the {} split is left", examples.origin, name_of(split));

  const int64_t classes = keep_all ? count_classes(format, spec.root) : static_cast<int64_t>(spec.classes.size());
  return std::make_unique<StoredDataset>(std::move(stored), std::move(rows), std::move(target), std::move(transforms),
                                         classes, spec.mask != "none", spec.trim_padding);
}

std::unique_ptr<Dataset> open_dataset(const DataSpec& spec, Split split, uint64_t seed, const std::string& label) {
  DataFiles files;
  return open_dataset(spec, split, seed, label, files);
}

}  // namespace amalgam
