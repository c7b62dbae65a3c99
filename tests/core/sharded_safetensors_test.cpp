#include "core/sharded_safetensors.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "core/atomic_file.h"
#include "core/digest.h"
#include "expect_error.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

using ::testing::HasSubstr;

/// The tensors that exchange_safetensors.py expects.
NamedTensors some_tensors() {
  return {{"a.weight", at::arange(12, at::kFloat).view({3, 4})},
          {"b", at::arange(5, at::kLong)},
          {"c.half", at::arange(6, at::kFloat).view({2, 3}).to(at::kHalf)},
          {"empty", at::zeros({0, 2}, at::kDouble)},
          {"flag", at::tensor({1, 0, 1}).to(at::kBool)}};
}

/// Ones of other sizes under other names, to tell a new set from the old one.
NamedTensors other_tensors() { return {{"a.weight", at::ones({8})}, {"x", at::ones({3, 3})}, {"y", at::ones({5})}}; }

void expect_holds(const TensorSource& source, const NamedTensors& expected) {
  ASSERT_EQ(source.infos().size(), expected.size());
  for (const auto& [name, tensor] : expected) {
    ASSERT_TRUE(source.contains(name)) << name;
    EXPECT_EQ(source.get(name).scalar_type(), tensor.scalar_type()) << name;
    EXPECT_TRUE(at::equal(source.get(name), tensor)) << name;
  }
}

bool run_exchange(const std::string& arguments) {
  const std::string root = AMALGAM_SOURCE_DIR;
  const auto command = "'" + root + "/.deps/venv/bin/python' '" + root + "/tests/core/exchange_safetensors.py' ";
  return std::system((command + arguments).c_str()) == 0;
}

class ShardedSafetensorsFiles : public ::testing::Test {
 protected:
  /// Writes to model.safetensors with shards of 30 bytes, which no two of some_tensors() fit into but the smallest.
  std::filesystem::path write(const NamedTensors& tensors, uint64_t max_shard_bytes = 30) {
    return write_safetensors_sharded(path_, MemoryTensors(tensors), {{"key", "value"}}, max_shard_bytes);
  }

  std::set<std::string> files() const {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_.path()))
      names.insert(entry.path().filename().string());
    return names;
  }

  std::map<std::string, std::string> contents() const {
    std::map<std::string, std::string> bytes;
    for (const auto& name : files()) bytes[name] = read_file(folder_ / name);
    return bytes;
  }

  /// Two good shards, "1.safetensors" with a and b and "2.safetensors" with c, and this text as their index.
  std::string error_of_index(const std::string& text) {
    write_safetensors(folder_ / "1.safetensors", NamedTensors{{"a", at::ones({2})}, {"b", at::ones({3})}});
    write_safetensors(folder_ / "2.safetensors", NamedTensors{{"c", at::ones({4})}});
    write_file(folder_ / "x.safetensors.index.json", text);
    return input_error_of([&] { open_safetensors(folder_ / "x.safetensors.index.json"); });
  }

  TemporaryFolder folder_;
  std::filesystem::path path_ = folder_ / "model.safetensors";
};

TEST_F(ShardedSafetensorsFiles, GiveBackWhatWasWritten) {
  const auto index = write(some_tensors());
  EXPECT_EQ(index, folder_ / "model.safetensors.index.json");
  const ShardedSafetensors file(index);
  EXPECT_EQ(file.path(), index);
  EXPECT_EQ(file.shards().size(), 3U);
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"key", "value"}}));
  expect_holds(file, some_tensors());
  file.verify();
}

TEST_F(ShardedSafetensorsFiles, AreOneFileWhereAllFits) {
  EXPECT_EQ(write(some_tensors(), 1000), path_);
  EXPECT_EQ(files(), std::set<std::string>{"model.safetensors"});
  const auto file = open_safetensors(path_);
  EXPECT_EQ(file->metadata().at("key"), "value");
  expect_holds(*file, some_tensors());
}

TEST_F(ShardedSafetensorsFiles, CloseAShardBeforeItGrowsPastTheLimit) {
  NamedTensors tensors;
  for (const char* name : {"a", "b", "c", "d", "e"}) tensors[name] = at::ones({2});  // 8 bytes each
  tensors["b"] = at::ones({9});                                                      // larger than any shard
  const ShardedSafetensors file(write(tensors, 16));
  std::map<std::string, std::set<std::string>> held;  // first tensor -> tensors of its shard
  for (const auto& [name, shard] : file.shards())
    for (const auto& [tensor, info] : shard.infos()) held[shard.infos().begin()->first].insert(tensor);
  EXPECT_EQ(held, (std::map<std::string, std::set<std::string>>{
                      {"a", {"a"}}, {"b", {"b"}}, {"c", {"c", "d"}}, {"e", {"e"}}}));
}

TEST_F(ShardedSafetensorsFiles, AreTheSameBytesForTheSameContent) {
  write(some_tensors());
  const auto first = contents();
  write(other_tensors());
  write(some_tensors());
  EXPECT_EQ(contents(), first);
}

TEST_F(ShardedSafetensorsFiles, OpenByTheNameOfTheSingleFileToo) {
  write(some_tensors());
  expect_holds(*open_safetensors(path_), some_tensors());
}

TEST_F(ShardedSafetensorsFiles, PinEachShardByItsDigest) {
  const auto index = write(some_tensors());
  const auto json = nlohmann::json::parse(read_file(index));
  const auto& digests = json["metadata"][ShardedSafetensors::kDigests];
  ASSERT_EQ(digests.size(), 3U);
  for (const auto& [file, digest] : digests.items()) EXPECT_EQ(digest, digest_of_file(folder_ / file));
  EXPECT_EQ(json["metadata"][ShardedSafetensors::kTotalSize], 12 * 4 + 5 * 8 + 6 * 2 + 3);

  const std::string shard = digests.begin().key();
  auto bytes = read_file(folder_ / shard);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  write_file(folder_ / shard, bytes);
  EXPECT_THAT(input_error_of([&] { ShardedSafetensors(index).verify(); }), HasSubstr(shard));
}

TEST_F(ShardedSafetensorsFiles, SayTheFormatInEachShard) {
  const ShardedSafetensors file(
      write_safetensors_sharded(path_, MemoryTensors(some_tensors()), {{"format", "pt"}, {"key", "value"}}, 30));
  for (const auto& [name, shard] : file.shards())
    EXPECT_EQ(shard.metadata(), (std::map<std::string, std::string>{{"format", "pt"}})) << name;
}

TEST_F(ShardedSafetensorsFiles, RefuseMetadataThatTheIndexHasItself) {
  for (const char* key : {"total_size", "shard_sha256"})
    EXPECT_THAT(input_error_of([&] {
                  write_safetensors_sharded(path_, MemoryTensors(some_tensors()), {{key, "1"}}, 30);
                }),
                HasSubstr(key));
  EXPECT_THAT(
      input_error_of([&] { write_safetensors_sharded(folder_ / "model", MemoryTensors(some_tensors()), {}, 30); }),
      HasSubstr("NAME.safetensors"));
}

TEST_F(ShardedSafetensorsFiles, ReadWhatPythonWrites) {
  ASSERT_TRUE(run_exchange("write '" + folder_.path().string() + "'"));
  const ShardedSafetensors file(folder_ / "model.safetensors.index.json");
  EXPECT_EQ(file.shards().size(), 2U);
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"key", "value"}}));
  expect_holds(file, some_tensors());
  EXPECT_THAT(input_error_of([&] { file.verify(); }), HasSubstr("holds no shard_sha256"));
}

TEST_F(ShardedSafetensorsFiles, CanBeReadByPython) {
  EXPECT_TRUE(run_exchange("read '" + write(some_tensors()).string() + "'"));
}

// --- Stopped at any point
// ---------------------------------------------------------------------------------------------

/// Fails when the tensor numbered `last` is asked for, as a program that is stopped there.
class BreakingTensors final : public TensorSource {
 public:
  BreakingTensors(NamedTensors tensors, size_t last) : tensors_(std::move(tensors)), left_(last) {}
  const std::map<std::string, TensorInfo>& infos() const override { return tensors_.infos(); }
  at::Tensor get(const std::string& name) const override {
    if (left_-- == 0) throw std::runtime_error("stopped");
    return tensors_.get(name);
  }

 private:
  MemoryTensors tensors_;
  mutable size_t left_;
};

TEST_F(ShardedSafetensorsFiles, LeaveTheOldSetReadableWhileTheIndexIsMissing) {
  for (const uint64_t old_limit : {30, 1000}) {  // the old set has shards, or is one file
    for (size_t at = 0; at < other_tensors().size(); ++at) {
      write(some_tensors(), old_limit);
      EXPECT_THROW(write_safetensors_sharded(path_, BreakingTensors(other_tensors(), at), {}, 20), std::runtime_error);
      expect_holds(*open_safetensors(path_), some_tensors());
    }
    write(other_tensors());
    EXPECT_EQ(files().size(), 4U) << "an index and three shards; what earlier attempts left is gone";
    expect_holds(*open_safetensors(path_), other_tensors());
  }
}

TEST_F(ShardedSafetensorsFiles, AreWholeWithAllFilesOfTheOldSetBesideThem) {
  for (const auto& [old_limit, new_limit] : {std::pair{30, 20}, {30, 1000}, {1000, 20}}) {
    write(some_tensors(), static_cast<uint64_t>(old_limit));
    const auto old = contents();
    const auto made = write(other_tensors(), static_cast<uint64_t>(new_limit));
    const auto kept = files();
    for (const auto& [name, bytes] : old)
      if (!kept.contains(name)) write_file(folder_ / name, bytes);  // as if stopped before the first removal
    expect_holds(*open_safetensors(made), other_tensors());
    expect_holds(*open_safetensors(path_), old_limit == 1000 ? some_tensors() : other_tensors());
    write(other_tensors(), static_cast<uint64_t>(new_limit));
    EXPECT_EQ(files(), kept);
  }
}

TEST_F(ShardedSafetensorsFiles, RemoveNothingButAnOlderSetOfTheirName) {
  const std::set<std::string> others = {"model.pt",
                                        "model2-00001-of-00002.safetensors",
                                        "model-a.safetensors",
                                        "model-00001-of-00002.safetensors.json",
                                        "my-model-00001-of-00002.safetensors",
                                        "model-1-of-2.safetensors"};
  for (const auto& name : others) write_file(folder_ / name, "x");
  write_file(folder_ / "model-00001-of-00002.safetensors", "x");
  write(some_tensors(), 1000);
  auto expected = others;
  expected.insert("model.safetensors");
  EXPECT_EQ(files(), expected);
}

// --- Memory
// -----------------------------------------------------------------------------------------------------------

/// Makes tensors when they are asked for, and counts those that are alive.
class CountedTensors final : public TensorSource {
 public:
  CountedTensors() {
    for (int i = 0; i < 10; ++i) infos_["tensor" + std::to_string(i)] = {at::kFloat, {1000}};
  }
  const std::map<std::string, TensorInfo>& infos() const override { return infos_; }
  at::Tensor get(const std::string&) const override {
    most_ = std::max(most_, ++alive_);
    auto* numbers = new float[1000]();
    return at::from_blob(numbers, {1000}, [this](void* data) {
      delete[] static_cast<float*>(data);
      --alive_;
    });
  }
  int most() const { return most_; }

 private:
  std::map<std::string, TensorInfo> infos_;
  mutable int alive_ = 0, most_ = 0;
};

TEST_F(ShardedSafetensorsFiles, AreWrittenWithOneTensorInMemoryAtATime) {
  const CountedTensors tensors;
  write_safetensors_sharded(path_, tensors, {}, 9000);
  write_safetensors(folder_ / "one", tensors);
  EXPECT_EQ(tensors.most(), 1);
}

/// Kibibytes of this program that are in memory.
int64_t resident_kibibytes() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;)
    if (word == "VmRSS:") {
      int64_t value = 0;
      status >> value;
      return value;
    }
  return 0;
}

/// A safetensors file of one tensor of zeros that takes no space on the disk.
void write_sparse(const std::filesystem::path& path, const std::string& name, uint64_t gibibytes) {
  const uint64_t bytes = gibibytes << 30;
  nlohmann::json header;
  header[name] = {{"dtype", "F32"}, {"shape", {gibibytes << 18, 1024}}, {"data_offsets", {0, bytes}}};
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t size = text.size();
  std::string begin(8, '\0');
  std::memcpy(begin.data(), &size, 8);
  write_file(path, begin + text);
  std::filesystem::resize_file(path, 8 + size + bytes);
}

TEST_F(ShardedSafetensorsFiles, ReadNoMoreThanIsTouched) {
  write_sparse(folder_ / "1.safetensors", "a", 200);
  write_sparse(folder_ / "2.safetensors", "b", 300);  // far more than the machine has
  write_file(folder_ / "x.safetensors.index.json", R"({"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}})");
  at::zeros({16}).sum();  // whatever LibTorch sets up at its first use
  const int64_t before = resident_kibibytes();
  const auto file = open_safetensors(folder_ / "x.safetensors.index.json");
  const at::Tensor rows = file->get("b").narrow(0, 1 << 25, 256);  // 1 MiB out of the middle
  EXPECT_EQ(rows.sum().item<float>(), 0.0F);
  EXPECT_LT(resident_kibibytes() - before, 16 << 10);
}

// --- Hostile indices
// --------------------------------------------------------------------------------------------------

TEST_F(ShardedSafetensorsFiles, OpenWithAnIndexThatIsRight) {
  error_of_index("");
  write_file(folder_ / "x.safetensors.index.json",
             R"({"weight_map": {"a": "1.safetensors", "b": "1.safetensors", "c": "2.safetensors"}})");
  EXPECT_EQ(open_safetensors(folder_ / "x.safetensors.index.json")->infos().size(), 3U);
}

TEST_F(ShardedSafetensorsFiles, RefuseWhatIsNoIndex) {
  EXPECT_THAT(input_error_of([&] { open_safetensors(folder_ / "none.index.json"); }), HasSubstr("none.index.json"));
  EXPECT_THAT(error_of_index("{]"), HasSubstr("damaged"));
  EXPECT_THAT(error_of_index("[]"), HasSubstr("weight_map"));
  EXPECT_THAT(error_of_index("{}"), HasSubstr("weight_map"));
  EXPECT_THAT(error_of_index(R"({"weight_map": {}})"), HasSubstr("empty"));
  EXPECT_THAT(error_of_index(R"({"weight_map": 5})"), HasSubstr("damaged"));
  EXPECT_THAT(error_of_index(R"({"weight_map": {"a": 5}})"), HasSubstr("damaged"));
  EXPECT_THAT(error_of_index(R"({"metadata": 5, "weight_map": {"a": "1.safetensors"}})"), HasSubstr("metadata"));
  EXPECT_THAT(error_of_index(R"({"weight_map": {"a": "1.safetensors", "a": "1.safetensors"}})"),
              HasSubstr("'a' occurs twice"));
  error_of_index(std::string(100000, '[') + std::string(100000, ']'));
}

TEST_F(ShardedSafetensorsFiles, RefuseShardsOutsideTheIndexsFolder) {
  for (const char* file : {"../1.safetensors", "/etc/1.safetensors", "./1.safetensors", "a\\\\1.safetensors", "..", ".",
                           "", "/etc/passwd", "1.safetensors/", "1.safetensors\\u0000.safetensors", "1.pt"})
    EXPECT_THAT(error_of_index(std::string(R"({"weight_map": {"a": ")") + file + "\"}}"),
                HasSubstr("no plain name of a safetensors file"))
        << file;
}

TEST_F(ShardedSafetensorsFiles, RefuseAMapThatItsShardsDoNotBearOut) {
  EXPECT_THAT(error_of_index(R"({"weight_map": {"a": "3.safetensors"}})"), HasSubstr("3.safetensors"));
  EXPECT_THAT(error_of_index(R"({"weight_map": {"a": "1.safetensors", "b": "1.safetensors", "z": "1.safetensors"}})"),
              HasSubstr("puts tensor 'z' into 1.safetensors, which does not hold it"));
  EXPECT_THAT(error_of_index(R"({"weight_map": {"a": "1.safetensors", "c": "2.safetensors"}})"),
              HasSubstr("1.safetensors holds tensor 'b', which the weight_map does not know"));
}

TEST_F(ShardedSafetensorsFiles, RefuseATensorThatStandsInTwoShards) {
  write_safetensors(folder_ / "3.safetensors", NamedTensors{{"c", at::ones({4})}, {"d", at::ones({4})}});
  EXPECT_THAT(error_of_index(R"({"weight_map": {"a": "1.safetensors", "b": "1.safetensors", "c": "2.safetensors",
                                                "d": "3.safetensors"}})"),
              HasSubstr("'c' stands in 2.safetensors and in 3.safetensors"));
}

TEST_F(ShardedSafetensorsFiles, RefuseDigestsThatDoNotFitTheMap) {
  const auto with = [](const std::string& digests) {
    return R"({"metadata": {"shard_sha256": )" + digests + R"(}, "weight_map": {"c": "2.safetensors"}})";
  };
  const std::string digest(64, 'a');
  EXPECT_THAT(error_of_index(with("5")), HasSubstr("damaged"));
  EXPECT_THAT(error_of_index(with(R"({"2.safetensors": "abc"})")), HasSubstr("64 hexadecimal digits"));
  EXPECT_THAT(error_of_index(with(R"({"1.safetensors": ")" + digest + "\"}")), HasSubstr("lacks 2.safetensors"));
  EXPECT_THAT(error_of_index(with(R"({"1.safetensors": ")" + digest + R"(", "2.safetensors": ")" + digest + "\"}")),
              HasSubstr("that the weight_map does not"));
}

TEST_F(ShardedSafetensorsFiles, DoNotWaitAtAPipe) {
  const auto pipe = folder_ / "1.safetensors";
  ASSERT_EQ(std::system(("mkfifo '" + pipe.string() + "'").c_str()), 0);
  write_file(folder_ / "y.safetensors.index.json", R"({"weight_map": {"a": "1.safetensors"}})");
  EXPECT_THAT(input_error_of([&] { open_safetensors(folder_ / "y.safetensors.index.json"); }),
              HasSubstr("no plain file"));
}

TEST_F(ShardedSafetensorsFiles, PrefetchChangesNothingAndLeavesOutUnknownNames) {
  const ShardedSafetensors file(write(some_tensors()));
  file.prefetch({"c.half", "no such tensor", "empty", "a.weight"});
  expect_holds(file, some_tensors());
}

TEST_F(ShardedSafetensorsFiles, APathStandsForTheFileOrElseForItsIndex) {
  EXPECT_EQ(stored_safetensors(path_), path_);  // neither is there
  const auto index = write(some_tensors());
  ASSERT_NE(index, path_);
  EXPECT_EQ(stored_safetensors(path_), index);
  EXPECT_EQ(stored_safetensors(index), index);
  write_safetensors(path_, some_tensors());
  EXPECT_EQ(stored_safetensors(path_), path_);
}

}  // namespace
}  // namespace amalgam
