#include "core/process_group.h"

// The deprecated C++ interface of MPI stays out.
#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <iostream>

#include "core/error.h"

namespace amalgam {
namespace {

// MPI counts in int. Far fewer than 2^31, since a reduction holds some copies of what it is given.
constexpr int64_t kPiece = int64_t{1} << 24;
constexpr int kTextTag = 1, kTensorTag = 2;
constexpr int64_t kMostAxes = 64;  // that a tensor has

constexpr int kUnknown = 0;

/// The positive number in an environment variable; kUnknown where there is none.
int number_in(const char* variable) {
  const char* text = std::getenv(variable);
  if (text == nullptr) return kUnknown;
  int number = kUnknown;
  const char* end = text + std::strlen(text);
  const auto [last, error] = std::from_chars(text, end, number);
  return error == std::errc{} && last == end && number > 0 ? number : kUnknown;
}

/// How many processes the launcher announces: 1 where there is no launcher, kUnknown where it does not say.
///
/// Open MPI's mpirun sets OMPI_COMM_WORLD_SIZE; PMI launchers (MPICH's, srun --mpi=pmi2) set PMI_SIZE and PMI_RANK;
/// PMIx ones (srun --mpi=pmix) PMIX_RANK and no size, which Slurm gives in variables of its own. Slurm's variables
/// alone say nothing: a batch script has them too, and so has a step without MPI.
int announced_processes() {
  for (const char* variable : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"})
    if (std::getenv(variable) != nullptr) return number_in(variable);
  if (std::getenv("PMI_RANK") == nullptr && std::getenv("PMIX_RANK") == nullptr) return 1;
  for (const char* variable : {"SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"})
    if (std::getenv(variable) != nullptr) return number_in(variable);
  return kUnknown;
}

/// Calls `work(begin, count)` for pieces of [0, count) that MPI's int counts can hold.
template <class Work>
void in_pieces(int64_t count, Work work) {
  for (int64_t begin = 0; begin < count; begin += kPiece)
    work(begin, static_cast<int>(std::min(kPiece, count - begin)));
}

MPI_Datatype mpi_type(at::ScalarType dtype) {
  switch (dtype) {
    case at::kDouble:
      return MPI_DOUBLE;
    case at::kFloat:
      return MPI_FLOAT;
    case at::kLong:
      return MPI_INT64_T;
    default:
      return MPI_DATATYPE_NULL;
  }
}

/// Members that disagree throw together, before one of them waits for the others.
void check_summable(const at::Tensor& sum) {
  const bool fits = sum.defined() && sum.device().is_cpu() && sum.layout() == at::kStrided && sum.is_contiguous() &&
                    mpi_type(sum.scalar_type()) != MPI_DATATYPE_NULL;
  const int64_t numel = fits ? sum.numel() : 0, dtype = fits ? static_cast<int64_t>(sum.scalar_type()) : 0;
  // Largest of a value and of its negative: the two agree only where all members have the same.
  std::array<int64_t, 5> most = {fits ? 0 : 1, numel, -numel, dtype, -dtype};
  MPI_Allreduce(MPI_IN_PLACE, most.data(), static_cast<int>(most.size()), MPI_INT64_T, MPI_MAX, MPI_COMM_WORLD);
  TORCH_CHECK(most[0] == 0,
              "sum_to_root takes a contiguous float64, float32 or int64 tensor on the CPU, of each process");
  TORCH_CHECK(most[1] == -most[2], "sum_to_root: the processes' tensors have from ", -most[2], " to ", most[1],
              " elements");
  TORCH_CHECK(most[3] == -most[4], "sum_to_root: the processes' tensors differ in dtype");
}

}  // namespace

ProcessGroup::ProcessGroup() : exceptions_(std::uncaught_exceptions()) {
  const int announced = announced_processes();
  if (announced != 1) join(announced);
}

void ProcessGroup::join(int announced) {
  int initialised = 0, provided = 0;
  MPI_Initialized(&initialised);
  TORCH_CHECK(initialised == 0, "a program makes one ProcessGroup");
  // Funneled: other threads run (LibTorch's), and never call MPI.
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
  MPI_Comm_size(MPI_COMM_WORLD, &size_);
  MPI_Comm machine = MPI_COMM_NULL;
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &machine);
  MPI_Comm_rank(machine, &local_rank_);
  MPI_Comm_size(machine, &local_size_);
  MPI_Comm_free(&machine);
  if (size_ > 1) return;
  MPI_Finalize();  // alone: nobody to wait for
  require_input(announced == kUnknown,
                "the launcher announces {} processes, but MPI sees only this one, so each would do all of the work; "
                "start with the mpirun of the MPI that amalgam was built with, or under Slurm with srun --mpi=pmix",
                announced);
}

ProcessGroup::~ProcessGroup() {
  if (size_ > 1 && std::uncaught_exceptions() == exceptions_) MPI_Finalize();
}

bool ProcessGroup::any(bool here) const {
  if (size_ == 1) return here;
  int said = here ? 1 : 0;
  MPI_Allreduce(MPI_IN_PLACE, &said, 1, MPI_INT, MPI_LOR, MPI_COMM_WORLD);
  return said != 0;
}

void ProcessGroup::sum_to_root(at::Tensor& sum) const {
  if (size_ == 1) return;
  check_summable(sum);
  const MPI_Datatype type = mpi_type(sum.scalar_type());
  auto* bytes = static_cast<char*>(sum.data_ptr());
  in_pieces(sum.numel(), [&](int64_t begin, int count) {
    char* piece = bytes + begin * static_cast<int64_t>(sum.element_size());
    if (is_root())
      MPI_Reduce(MPI_IN_PLACE, piece, count, type, MPI_SUM, 0, MPI_COMM_WORLD);
    else
      MPI_Reduce(piece, nullptr, count, type, MPI_SUM, 0, MPI_COMM_WORLD);
  });
}

std::string ProcessGroup::broadcast(std::string text) const {
  if (size_ == 1) return text;
  auto bytes = static_cast<int64_t>(text.size());
  MPI_Bcast(&bytes, 1, MPI_INT64_T, 0, MPI_COMM_WORLD);
  text.resize(static_cast<size_t>(bytes));
  in_pieces(bytes,
            [&](int64_t begin, int count) { MPI_Bcast(text.data() + begin, count, MPI_CHAR, 0, MPI_COMM_WORLD); });
  return text;
}

std::vector<std::string> ProcessGroup::gather(const std::string& text) const {
  if (size_ == 1) return {text};
  const auto bytes = static_cast<int64_t>(text.size());
  std::vector<int64_t> sizes(is_root() ? static_cast<size_t>(size_) : 0);
  MPI_Gather(&bytes, 1, MPI_INT64_T, sizes.data(), 1, MPI_INT64_T, 0, MPI_COMM_WORLD);
  if (!is_root()) {
    in_pieces(bytes, [&](int64_t begin, int count) {
      MPI_Send(text.data() + begin, count, MPI_CHAR, 0, kTextTag, MPI_COMM_WORLD);
    });
    return {};
  }
  std::vector<std::string> all = {text};
  for (int from = 1; from < size_; ++from) {
    auto& received = all.emplace_back(static_cast<size_t>(sizes[static_cast<size_t>(from)]), '\0');
    in_pieces(sizes[static_cast<size_t>(from)], [&](int64_t begin, int count) {
      MPI_Recv(received.data() + begin, count, MPI_CHAR, from, kTextTag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    });
  }
  return all;
}

at::Tensor ProcessGroup::to_root(const at::Tensor& tensor, int from) const {
  TORCH_CHECK(from >= 0 && from < size_, "there is no process ", from);
  if (from == 0 || (rank_ != from && !is_root())) return tensor;
  std::array<int64_t, 2 + kMostAxes> about{};  // dtype, axes, sizes
  if (rank_ == from) {
    TORCH_CHECK(tensor.device().is_cpu() && tensor.is_contiguous() && tensor.dim() <= kMostAxes,
                "to_root takes a contiguous tensor on the CPU");
    about[0] = static_cast<int64_t>(tensor.scalar_type());
    about[1] = tensor.dim();
    std::copy(tensor.sizes().begin(), tensor.sizes().end(), about.begin() + 2);
    MPI_Send(about.data(), static_cast<int>(about.size()), MPI_INT64_T, 0, kTensorTag, MPI_COMM_WORLD);
    const auto* bytes = static_cast<const char*>(tensor.const_data_ptr());
    in_pieces(static_cast<int64_t>(tensor.nbytes()), [&](int64_t begin, int count) {
      MPI_Send(bytes + begin, count, MPI_BYTE, 0, kTensorTag, MPI_COMM_WORLD);
    });
    return tensor;
  }
  MPI_Recv(about.data(), static_cast<int>(about.size()), MPI_INT64_T, from, kTensorTag, MPI_COMM_WORLD,
           MPI_STATUS_IGNORE);
  const at::Tensor received = at::empty(at::IntArrayRef(about.data() + 2, static_cast<size_t>(about[1])),
                                        at::TensorOptions(at::kCPU).dtype(static_cast<at::ScalarType>(about[0])));
  auto* bytes = static_cast<char*>(received.mutable_data_ptr());
  in_pieces(static_cast<int64_t>(received.nbytes()), [&](int64_t begin, int count) {
    MPI_Recv(bytes + begin, count, MPI_BYTE, from, kTensorTag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  });
  return received;
}

void ProcessGroup::barrier() const {
  if (size_ > 1) MPI_Barrier(MPI_COMM_WORLD);
}

void ProcessGroup::abort(int code) const {
  std::cout.flush();
  std::cerr.flush();
  std::fflush(nullptr);
  if (size_ > 1) MPI_Abort(MPI_COMM_WORLD, code);
  std::_Exit(code);
}

}  // namespace amalgam
