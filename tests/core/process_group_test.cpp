// A group of one. Several processes: tests/project/process_group_test.sh.
#include "core/process_group.h"

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <map>
#include <optional>

namespace amalgam {
namespace {

using ::testing::ElementsAre;

/// No launcher's variables but those given, for its scope.
class Launcher {
 public:
  explicit Launcher(const std::map<std::string, std::string>& variables) {
    for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMI_RANK", "PMIX_RANK", "SLURM_STEP_NUM_TASKS",
                             "SLURM_NTASKS", "SLURM_PROCID"}) {
      const char* value = std::getenv(name);
      before_[name] = value == nullptr ? std::nullopt : std::optional<std::string>(value);
      set(name, variables.contains(name) ? std::optional(variables.at(name)) : std::nullopt);
    }
  }
  ~Launcher() {
    for (const auto& [name, value] : before_) set(name, value);
  }
  Launcher(const Launcher&) = delete;
  Launcher& operator=(const Launcher&) = delete;

 private:
  static void set(const std::string& name, const std::optional<std::string>& value) {
    if (value)
      ::setenv(name.c_str(), value->c_str(), 1);
    else
      ::unsetenv(name.c_str());
  }

  std::map<std::string, std::optional<std::string>> before_;
};

/// Asks the MPI that the library brought along, without its header.
bool mpi_is_initialised() {
  auto* asked = reinterpret_cast<int (*)(int*)>(::dlsym(RTLD_DEFAULT, "MPI_Initialized"));
  if (asked == nullptr) {
    ADD_FAILURE() << "the library is not linked with MPI";
    return false;
  }
  int initialised = 0;
  asked(&initialised);
  return initialised != 0;
}

TEST(ProcessGroup, OfOneAnswersEverythingItself) {
  const Launcher none({});
  const ProcessGroup group;
  EXPECT_EQ(group.rank(), 0);
  EXPECT_EQ(group.size(), 1);
  EXPECT_EQ(group.local_rank(), 0);
  EXPECT_EQ(group.local_size(), 1);
  EXPECT_TRUE(group.is_root());
  EXPECT_TRUE(group.any(true));
  EXPECT_FALSE(group.any(false));
  at::Tensor sum = at::arange(5, at::kDouble);
  group.sum_to_root(sum);
  EXPECT_TRUE(at::equal(sum, at::arange(5, at::kDouble)));
  EXPECT_EQ(group.broadcast("text"), "text");
  EXPECT_THAT(group.gather("text"), ElementsAre("text"));
  EXPECT_TRUE(at::equal(group.to_root(sum, 0), sum));
  group.barrier();
  EXPECT_FALSE(mpi_is_initialised());
}

TEST(ProcessGroup, LeavesMpiAloneWhereNoMoreThanOneProcessIsAnnounced) {
  using Variables = std::map<std::string, std::string>;
  for (const Variables& variables :
       {Variables{{"OMPI_COMM_WORLD_SIZE", "1"}, {"PMIX_RANK", "0"}}, Variables{{"PMI_SIZE", "1"}, {"PMI_RANK", "0"}},
        Variables{{"PMIX_RANK", "0"}, {"SLURM_STEP_NUM_TASKS", "1"}, {"SLURM_NTASKS", "8"}},
        // A batch script of Slurm, which starts the program without its launcher.
        Variables{{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}}}) {
    const Launcher launcher(variables);
    EXPECT_EQ(ProcessGroup().size(), 1);
    EXPECT_FALSE(mpi_is_initialised());
  }
}

TEST(ProcessGroupDeathTest, OfOneAbortsWithItsCodeAndWhatWasWritten) {
  const Launcher none({});
  EXPECT_EXIT(
      {
        std::cerr << "last words";
        ProcessGroup().abort(7);
      },
      ::testing::ExitedWithCode(7), "last words");
}

}  // namespace
}  // namespace amalgam
