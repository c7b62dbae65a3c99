#include "core/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/atomic_file.h"
#include "core/error.h"
#include "core/strict_json.h"

namespace amalgam {
namespace {

constexpr uint64_t kLargestHeader = 100'000'000;  // the limit of the reference implementation

/// Linux cuts each request to read ahead to about what the disk takes at once, and forgets the rest: so a large tensor
/// is asked for in pieces of the size that no disk is set below, as a rule. (Whole, 8 of 256 MB came.)
constexpr size_t kReadAhead = size_t{128} << 10;

struct DtypeName {
  const char* name;
  at::ScalarType dtype;
};
constexpr std::array kDtypes = {
    DtypeName{"BOOL", at::kBool},  DtypeName{"U8", at::kByte},       DtypeName{"I8", at::kChar},
    DtypeName{"I16", at::kShort},  DtypeName{"I32", at::kInt},       DtypeName{"I64", at::kLong},
    DtypeName{"F16", at::kHalf},   DtypeName{"BF16", at::kBFloat16}, DtypeName{"F32", at::kFloat},
    DtypeName{"F64", at::kDouble},
};

const char* name_of(at::ScalarType dtype) {
  for (const auto& entry : kDtypes)
    if (entry.dtype == dtype) return entry.name;
  return nullptr;
}

/// Bytes of a tensor of these sizes, or an error where the product does not fit in 63 bits.
uint64_t bytes_of(const std::string& name, const std::vector<int64_t>& shape, size_t item) {
  uint64_t bytes = item;
  for (const int64_t size : shape) {
    require_input(size >= 0, "tensor '{}' has a negative size", name);
    require_input(!__builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes) && bytes <= INT64_MAX,
                  "tensor '{}' has a shape too large for any machine", name);
  }
  return bytes;
}

struct Entry {
  TensorInfo info;
  uint64_t begin = 0, end = 0;  // within the data
};

Entry parse_entry(const std::string& name, const nlohmann::json& json) {
  Entry entry;
  const auto dtype = json.at("dtype").get<std::string>();
  const auto found = std::find_if(kDtypes.begin(), kDtypes.end(), [&](const DtypeName& d) { return dtype == d.name; });
  require_input(found != kDtypes.end(), "tensor '{}' has the unknown dtype '{}'", name, dtype);
  entry.info.dtype = found->dtype;
  for (const auto& size : json.at("shape")) {
    require_input(size.is_number_integer() && (!size.is_number_unsigned() || size.get<uint64_t>() <= INT64_MAX),
                  "tensor '{}' has a size that is no whole number", name);
    entry.info.shape.push_back(size.get<int64_t>());
  }
  const auto& offsets = json.at("data_offsets");
  require_input(
      offsets.is_array() && offsets.size() == 2 && offsets[0].is_number_unsigned() && offsets[1].is_number_unsigned(),
      "tensor '{}' has no pair of data_offsets", name);
  entry.begin = offsets[0].get<uint64_t>();
  entry.end = offsets[1].get<uint64_t>();
  require_input(entry.begin <= entry.end, "tensor '{}' ends before it begins", name);
  const auto bytes = bytes_of(name, entry.info.shape, c10::elementSize(entry.info.dtype));
  require_input(bytes == entry.end - entry.begin, "tensor '{}' is {}, {} bytes, but its offsets span {}", name,
                describe(entry.info), bytes, entry.end - entry.begin);
  return entry;
}

/// The tensors' bytes must follow one another without gap or overlap and end with the file.
void require_tiling(const std::map<std::string, Entry>& entries, uint64_t data_size) {
  std::vector<std::pair<const Entry*, const std::string*>> order;
  for (const auto& [name, entry] : entries) order.emplace_back(&entry, &name);
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first->begin, a.first->end) < std::pair(b.first->begin, b.first->end);
  });
  uint64_t at = 0;
  for (const auto& [entry, name] : order) {
    require_input(entry->begin == at, "tensor '{}' begins at byte {} of the data where {} was expected ({})", *name,
                  entry->begin, at, entry->begin < at ? "tensors overlap" : "there is a gap");
    at = entry->end;
  }
  require_input(at == data_size, "the header describes {} bytes of data, the file holds {}", at, data_size);
}

}  // namespace

/// A read-only mapping of a whole file.
class SafetensorsFile::Mapping {
 public:
  explicit Mapping(const std::filesystem::path& path) {
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // no waiting at a pipe
    require_input(descriptor >= 0, "cannot open: {}", std::strerror(errno));
    struct stat status {};
    const bool regular = ::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
    size_ = regular ? static_cast<size_t>(status.st_size) : 0;
    // Private and writable: LibTorch knows no read-only tensors, so a stray write must not reach the file.
    void* address = size_ > 0
                        ? ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, descriptor, 0)
                        : nullptr;
    ::close(descriptor);
    require_input(regular, "this is no plain file");
    require_input(size_ >= 8, "the file holds {} bytes, fewer than a header's length takes", size_);
    require_input(address != MAP_FAILED, "cannot map the file: {}", std::strerror(errno));
    data_ = static_cast<char*>(address);
  }
  ~Mapping() {
    if (data_) ::munmap(data_, size_);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  char* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  char* data_ = nullptr;
  size_t size_ = 0;
};

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : path_(path) {
  try {
    mapping_ = std::make_shared<Mapping>(path);
    uint64_t header_size = 0;
    std::memcpy(&header_size, mapping_->data(), 8);  // little-endian, as this machine is
    require_input(header_size <= kLargestHeader && header_size <= mapping_->size() - 8,
                  "the header claims {} bytes, the file holds {} after its length", header_size, mapping_->size() - 8);
    const char* header = mapping_->data() + 8;
    const auto json = parse_strict_json({header, header_size});
    require_input(json.is_object(), "the header is no JSON object");
    std::map<std::string, Entry> entries;
    for (const auto& [name, value] : json.items()) {
      if (name == "__metadata__") {
        value.get_to(metadata_);
      } else {
        entries[name] = parse_entry(name, value);
      }
    }
    const size_t data_begin = 8 + header_size;
    require_tiling(entries, mapping_->size() - data_begin);
    for (const auto& [name, entry] : entries) {
      infos_[name] = entry.info;
      begin_[name] = data_begin + entry.begin;
    }
  } catch (const nlohmann::json::exception& error) {
    throw InputError(fmt::format("{}: damaged safetensors header: {}", path.string(), error.what()));
  } catch (const InputError& error) {
    throw InputError(fmt::format("{}: {}", path.string(), error.what()));
  }
}

at::Tensor SafetensorsFile::get(const std::string& name) const {
  const auto found = infos_.find(name);
  require_input(found != infos_.end(), "{} holds no tensor '{}'", path_.string(), name);
  const auto options = at::TensorOptions().dtype(found->second.dtype);
  char* data = mapping_->data() + begin_.at(name);
  // The format does not align: LibTorch's kernels want at least the item's own alignment.
  if (reinterpret_cast<uintptr_t>(data) % c10::elementSize(found->second.dtype) != 0) {
    auto copy = at::empty(found->second.shape, options);
    std::memcpy(copy.mutable_data_ptr(), data, copy.nbytes());
    return copy;
  }
  return at::from_blob(
      data, found->second.shape, [keep = mapping_](void*) {}, options);
}

void SafetensorsFile::prefetch(const std::vector<std::string>& names) const {
  static const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  for (const std::string& name : names) {
    const auto found = infos_.find(name);
    if (found == infos_.end()) continue;
    const size_t begin = begin_.at(name);
    const size_t end = begin + detail::stored_bytes(name, found->second), first = begin / page * page;
    for (size_t at = first; end > begin && at < end; at += kReadAhead)  // advice: it may fail
      ::madvise(mapping_->data() + at, std::min(kReadAhead, end - at), MADV_WILLNEED);
  }
}

uint64_t detail::stored_bytes(const std::string& name, const TensorInfo& info) {
  require_input(name_of(info.dtype) != nullptr, "tensor '{}': safetensors has no dtype for {}; convert it first", name,
                c10::toString(info.dtype));
  return bytes_of(name, info.shape, c10::elementSize(info.dtype));
}

void detail::emit_safetensors(const TensorSource& tensors, const std::vector<std::string>& names,
                              const std::map<std::string, std::string>& metadata,
                              const std::function<void(const void* data, size_t size)>& write) {
  nlohmann::json header = nlohmann::json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  uint64_t at = 0;
  for (const auto& name : names) {
    TORCH_CHECK(name != "__metadata__", "a tensor cannot be called __metadata__");
    const TensorInfo& info = tensors.infos().at(name);
    const uint64_t end = at + stored_bytes(name, info);
    header[name] = {{"dtype", name_of(info.dtype)}, {"shape", info.shape}, {"data_offsets", {at, end}}};
    at = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the data begin at a multiple of 8
  const uint64_t size = text.size();
  write(&size, 8);
  write(text.data(), text.size());
  for (const auto& name : names) {
    const auto plain = tensors.get(name).detach().cpu().contiguous();
    const TensorInfo found{plain.scalar_type(), plain.sizes().vec()};
    TORCH_CHECK(found == tensors.infos().at(name), "tensor '", name, "' is ", describe(found),
                ", but was announced as ", describe(tensors.infos().at(name)));
    write(plain.const_data_ptr(), plain.nbytes());
  }
}

void write_safetensors(const std::filesystem::path& path, const TensorSource& tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<std::string> names;
  for (const auto& [name, info] : tensors.infos()) names.push_back(name);
  AtomicFile file(path);
  detail::emit_safetensors(tensors, names, metadata, [&](const void* data, size_t size) { file.write(data, size); });
  file.commit();
}

void write_safetensors(const std::filesystem::path& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata) {
  write_safetensors(path, MemoryTensors(tensors), metadata);
}

}  // namespace amalgam
