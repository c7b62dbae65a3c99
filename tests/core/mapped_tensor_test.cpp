#include "core/mapped_tensor.h"

#include <sys/mount.h>
#include <sys/resource.h>

#include <csignal>
#include <fstream>

#include "core/atomic_file.h"
#include "expect_error.h"
#include "temporary_folder.h"

namespace amalgam {
namespace {

using ::testing::HasSubstr;

/// The process's mappings and open files that are in `folder`, whether or not they still have names there.
int64_t uses_of(const std::filesystem::path& folder) {
  int64_t count = 0;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);)
    if (line.find(folder.string()) != std::string::npos) ++count;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code error;  // the iterator's own descriptor is gone by now
    if (std::filesystem::read_symlink(entry, error).string().starts_with(folder.string())) ++count;
  }
  return count;
}

/// Limits the size of the files that the process writes, for its scope.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit now = {bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &now);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  void (*handler_)(int);
  rlimit before_ = {};
};

TEST(MappedZeros, AreZerosOfTheShapeAndDtypeAskedFor) {
  TemporaryFolder folder;
  for (const auto dtype : {at::kDouble, at::kFloat, at::kHalf, at::kLong, at::kByte, at::kBool})
    for (const std::vector<int64_t>& shape : std::vector<std::vector<int64_t>>{{}, {1}, {3, 5}, {2, 1025, 3}}) {
      const at::Tensor zeros = mapped_zeros(folder.path(), {dtype, shape});
      EXPECT_EQ(zeros.scalar_type(), dtype);
      EXPECT_EQ(zeros.sizes().vec(), shape);
      EXPECT_TRUE(zeros.is_contiguous() && zeros.device().is_cpu());
      EXPECT_TRUE(at::equal(zeros, at::zeros(shape, dtype)));
    }
}

TEST(MappedZeros, HoldWhatIsWrittenToThem) {
  TemporaryFolder folder;
  const at::Tensor sum = mapped_zeros(folder.path(), {at::kDouble, {300, 700}});
  const at::Tensor other = mapped_zeros(folder.path(), {at::kDouble, {300, 700}});
  const at::Tensor added = at::arange(300 * 700, at::kDouble).view({300, 700});
  sum.add_(added).add_(added);
  EXPECT_TRUE(at::equal(sum, 2 * added));
  EXPECT_TRUE(at::equal(other, at::zeros_like(other)));
}

TEST(MappedZeros, LeaveNoNameInTheFolder) {
  TemporaryFolder folder;
  const at::Tensor sum = mapped_zeros(folder.path(), {at::kFloat, {1000}});
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  EXPECT_EQ(uses_of(folder.path()), 1) << "its memory is not a file in the folder, or the file was left open";
}

TEST(MappedZeros, LiveAsLongAsTheirLastView) {
  TemporaryFolder folder;
  at::Tensor view;
  {
    const at::Tensor sum = mapped_zeros(folder.path(), {at::kFloat, {100, 100}});
    view = sum.select(0, 99);
  }
  view.fill_(3);
  EXPECT_EQ(view.sum().item<float>(), 300.0F);
  EXPECT_EQ(uses_of(folder.path()), 1);
  view.reset();
  EXPECT_EQ(uses_of(folder.path()), 0);
}

TEST(MappedZeros, TakeNoFileWithoutElements) {
  const at::Tensor none = mapped_zeros("/no/such/folder", {at::kDouble, {4, 0, int64_t{1} << 62}});
  EXPECT_EQ(none.sizes().vec(), (std::vector<int64_t>{4, 0, int64_t{1} << 62}));
  EXPECT_EQ(none.scalar_type(), at::kDouble);
}

TEST(MappedZeros, ReserveTheirSpaceAndSayWhenThereIsNone) {
  TemporaryFolder folder;
  if (::mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=64k") != 0)
    GTEST_SKIP() << "mounting a small disk needs root";
  {
    const at::Tensor half = mapped_zeros(folder.path(), {at::kByte, {32 << 10}});
    const auto error = input_error_of([&] { mapped_zeros(folder.path(), {at::kDouble, {3, 2048}}); });
    EXPECT_THAT(error, HasSubstr("float64 [3, 2048]"));
    EXPECT_THAT(error, HasSubstr(folder.path().string()));
    EXPECT_THAT(error, HasSubstr("No space left"));
    EXPECT_THAT(error, HasSubstr("another disk"));
    EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
    const at::Tensor rest = mapped_zeros(folder.path(), {at::kByte, {32 << 10}}).fill_(1);
    EXPECT_THAT(input_error_of([&] { mapped_zeros(folder.path(), {at::kByte, {1}}); }), HasSubstr("No space left"));
    half.fill_(1);  // what is reserved stays there to be written
  }
  EXPECT_EQ(mapped_zeros(folder.path(), {at::kByte, {64 << 10}}).numel(), 64 << 10) << "the space is given back";
  ::umount(folder.path().c_str());
}

TEST(MappedZeros, SayThatFilesMayNotBeSoLarge) {
  TemporaryFolder folder;
  std::string error;
  {
    const FileSizeLimit limit(1 << 16);
    error = input_error_of([&] { mapped_zeros(folder.path(), {at::kByte, {(1 << 16) + 1}}); });
  }
  EXPECT_THAT(error, HasSubstr("ulimit -f"));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  EXPECT_EQ(uses_of(folder.path()), 0);
}

TEST(MappedZeros, RefuseMoreBytesThanCanBeCounted) {
  TemporaryFolder folder;
  const int64_t large = int64_t{1} << 32;
  EXPECT_THAT(input_error_of([&] { mapped_zeros(folder.path(), {at::kDouble, {large, large}}); }), HasSubstr("large"));
  EXPECT_THAT(input_error_of([&] {
                mapped_zeros(folder.path(), {at::kDouble, {large, large >> 4}});
              }),
              HasSubstr(folder.path().string()));
  EXPECT_THROW(mapped_zeros(folder.path(), {at::kDouble, {2, -1}}), c10::Error);
}

TEST(MappedZeros, SayThatTheFolderIsNotThere) {
  TemporaryFolder folder;
  EXPECT_THAT(input_error_of([&] { mapped_zeros(folder / "none", {at::kFloat, {3}}); }), HasSubstr("No such file"));
  write_file(folder / "plain", "x");
  EXPECT_THAT(input_error_of([&] { mapped_zeros(folder / "plain", {at::kFloat, {3}}); }), HasSubstr("Not a directory"));
}

}  // namespace
}  // namespace amalgam
