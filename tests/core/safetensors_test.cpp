#include "core/safetensors.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <thread>

#include "core/atomic_file.h"
#include "expect_error.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

using ::testing::HasSubstr;

/// A file with this header and so many zero bytes of data.
std::string file_with(const std::string& header, size_t data) {
  const uint64_t size = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &size, 8);
  return bytes + header + std::string(data, '\0');
}

class Safetensors : public ::testing::Test {
 protected:
  std::string error_of(const std::string& bytes) {
    write_file(folder_ / "a.safetensors", bytes);
    return input_error_of([&] { SafetensorsFile file(folder_ / "a.safetensors"); });
  }

  TemporaryFolder folder_;
};

TEST_F(Safetensors, GivesBackEveryDtypeAndShape) {
  NamedTensors tensors;
  for (const auto dtype : {at::kBool, at::kByte, at::kChar, at::kShort, at::kInt, at::kLong, at::kHalf, at::kBFloat16,
                           at::kFloat, at::kDouble})
    tensors[c10::toString(dtype)] = at::arange(15).view({3, 5}).to(dtype);
  tensors["scalar"] = at::scalar_tensor(7, at::kLong);
  tensors["empty"] = at::empty({0, 4});
  tensors["transposed view"] = at::arange(6, at::kFloat).view({2, 3}).t();
  write_safetensors(folder_ / "a.safetensors", tensors, {{"key", "wert"}});
  const SafetensorsFile file(folder_ / "a.safetensors");
  EXPECT_EQ(file.metadata().at("key"), "wert");
  ASSERT_EQ(file.infos().size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    EXPECT_EQ(file.infos().at(name).dtype, tensor.scalar_type()) << name;
    EXPECT_TRUE(at::equal(file.get(name), tensor)) << name;
  }
}

TEST_F(Safetensors, WritesTheSameBytesForTheSameContent) {
  const NamedTensors tensors = {{"b", at::ones({3})}, {"a", at::zeros({2, 2}, at::kHalf)}};
  write_safetensors(folder_ / "1", tensors, {{"k", "v"}});
  write_safetensors(folder_ / "2", tensors, {{"k", "v"}});
  EXPECT_EQ(read_file(folder_ / "1"), read_file(folder_ / "2"));
}

TEST_F(Safetensors, StreamsTheSameBytesFromAnySource) {
  const NamedTensors tensors = {{"b", at::ones({3})}, {"a", at::zeros({2, 2}, at::kHalf)}};
  write_safetensors(folder_ / "1", tensors, {{"k", "v"}});
  write_safetensors(folder_ / "2", SafetensorsFile(folder_ / "1"), {{"k", "v"}});
  EXPECT_EQ(read_file(folder_ / "1"), read_file(folder_ / "2"));
}

TEST_F(Safetensors, TensorsOutliveTheFileObject) {
  write_safetensors(folder_ / "a", {{"x", at::arange(4, at::kDouble)}});
  at::Tensor x;
  {
    const SafetensorsFile file(folder_ / "a");
    x = file.get("x");
  }
  EXPECT_EQ(x.sum().item<double>(), 6.0);
}

TEST_F(Safetensors, ReadsTensorsThatAreNotAligned) {
  // A boolean before it puts the float at an odd byte.
  const auto header =
      R"({"a":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}})";
  const std::array<float, 2> values = {1.5F, -3.0F};
  std::string data(9, '\1');
  std::memcpy(data.data() + 1, values.data(), sizeof values);
  write_file(folder_ / "a", file_with(header, 0) + data);
  EXPECT_TRUE(at::equal(SafetensorsFile(folder_ / "a").get("b"), at::tensor({1.5F, -3.0F})));
}

TEST_F(Safetensors, RefusesAMissingFileByItsName) {
  EXPECT_THAT(input_error_of([&] { SafetensorsFile file(folder_ / "none"); }), HasSubstr((folder_ / "none").string()));
}

TEST_F(Safetensors, RefusesAFileCutAnywhere) {
  write_safetensors(folder_ / "whole", {{"x", at::ones({4})}, {"y", at::ones({2, 2})}});
  const auto whole = read_file(folder_ / "whole");
  for (size_t size = 0; size < whole.size(); ++size) error_of(whole.substr(0, size));
}

TEST_F(Safetensors, RefusesAFileWithMoreThanItsHeaderSays) {
  write_safetensors(folder_ / "whole", {{"x", at::ones({4})}});
  EXPECT_THAT(error_of(read_file(folder_ / "whole") + "x"), HasSubstr("holds 17"));
}

TEST_F(Safetensors, RefusesAHugeHeaderLength) {
  std::string bytes(64, '\xff');
  EXPECT_THAT(error_of(bytes), HasSubstr("header claims"));
}

TEST_F(Safetensors, RefusesHeadersThatLie) {
  const auto header = [](const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return R"({"x":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
  };
  EXPECT_THAT(error_of(file_with(header("F99", "[2]", "[0,8]"), 8)), HasSubstr("dtype 'F99'"));
  EXPECT_THAT(error_of(file_with(header("F32", "[3]", "[0,8]"), 8)), HasSubstr("12 bytes"));
  EXPECT_THAT(error_of(file_with(header("F32", "[-2]", "[0,8]"), 8)), HasSubstr("negative"));
  EXPECT_THAT(error_of(file_with(header("F32", "[2.5]", "[0,8]"), 8)), HasSubstr("whole number"));
  EXPECT_THAT(error_of(file_with(header("F32", "[4294967296,4294967296]", "[0,8]"), 8)), HasSubstr("too large"));
  EXPECT_THAT(error_of(file_with(header("F32", "[18446744073709551615]", "[0,8]"), 8)), HasSubstr("whole number"));
  EXPECT_THAT(error_of(file_with(header("F32", "[2]", "[8,0]"), 8)), HasSubstr("ends before"));
  EXPECT_THAT(error_of(file_with(header("F32", "[2]", "[-8,0]"), 8)), HasSubstr("data_offsets"));
  EXPECT_THAT(error_of(file_with(header("F32", "[2]", "[4,12]"), 12)), HasSubstr("gap"));
  EXPECT_THAT(error_of(file_with(header("F32", "[2]", "[0]"), 8)), HasSubstr("data_offsets"));
  EXPECT_THAT(error_of(file_with("[1,2]", 0)), HasSubstr("no JSON object"));
  EXPECT_THAT(error_of(file_with("{]", 0)), HasSubstr("damaged"));
  EXPECT_THAT(error_of(file_with(R"({"x":5})", 0)), HasSubstr("damaged"));
  EXPECT_THAT(error_of(file_with(R"({"__metadata__":{"a":5}})", 0)), HasSubstr("damaged"));
}

TEST_F(Safetensors, RefusesOverlappingTensors) {
  const auto header =
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})";
  EXPECT_THAT(error_of(file_with(header, 12)), HasSubstr("overlap"));
}

TEST_F(Safetensors, RefusesTwoTensorsOfOneName) {
  const auto header =
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})";
  EXPECT_THAT(error_of(file_with(header, 16)), HasSubstr("'a' occurs twice"));
}

TEST_F(Safetensors, RefusesDeeplyNestedHeadersWithoutACrash) {
  const std::string nested = std::string(100000, '[') + std::string(100000, ']');
  error_of(file_with(R"({"x":)" + nested + "}", 0));
}

TEST_F(Safetensors, RefusesDtypesThatTheFormatLacks) {
  EXPECT_THAT(input_error_of([&] {
                write_safetensors(folder_ / "c", {{"x", at::zeros({2}, at::kComplexFloat)}});
              }),
              HasSubstr("dtype"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "c"));
}

/// Which share of a tensor's pages is in the kernel's cache.
double cached_share(const at::Tensor& mapped) {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(mapped.const_data_ptr()) / page * page;
  std::vector<unsigned char> cached(mapped.nbytes() / page);
  EXPECT_EQ(::mincore(reinterpret_cast<void*>(begin), cached.size() * page, cached.data()), 0);
  const auto count = std::count_if(cached.begin(), cached.end(), [](unsigned char flags) { return (flags & 1) != 0; });
  return static_cast<double>(count) / static_cast<double>(cached.size());
}

TEST_F(Safetensors, PrefetchReadsAWholeTensorIntoTheCacheAndNoOther) {
  constexpr int64_t kBytes = int64_t{64} << 20;
  const auto path = folder_ / "a.safetensors";
  write_safetensors(path,
                    NamedTensors{{"asked", at::ones({kBytes}, at::kByte)}, {"other", at::ones({kBytes}, at::kByte)}});
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  ::posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED);
  ::close(descriptor);
  const SafetensorsFile file(path);
  const at::Tensor asked = file.get("asked"), other = file.get("other");
  if (cached_share(asked) > 0.5) GTEST_SKIP() << "this folder's files cannot leave the cache";
  file.prefetch({"asked"});
  for (int tries = 0; tries < 200 && cached_share(asked) < 1.0; ++tries)
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_GT(cached_share(asked), 0.95);
  EXPECT_LT(cached_share(other), 0.5);
}

TEST_F(Safetensors, PrefetchChangesNothingAndLeavesOutUnknownNames) {
  const NamedTensors tensors = {
      {"large", at::arange(5000, at::kDouble)}, {"empty", at::empty({0, 4})}, {"small", at::ones({3}, at::kByte)}};
  write_safetensors(folder_ / "a.safetensors", tensors);
  const SafetensorsFile file(folder_ / "a.safetensors");
  file.prefetch({"large", "no such tensor", "empty", "", "small", "large"});
  file.prefetch({});
  for (const auto& [name, tensor] : tensors) EXPECT_TRUE(at::equal(file.get(name), tensor)) << name;
  MemoryTensors(tensors).prefetch({"large", "no such tensor"});
}

}  // namespace
}  // namespace amalgam
