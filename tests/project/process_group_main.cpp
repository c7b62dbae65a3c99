// One member of a ProcessGroup of three; process_group_test.sh starts it. Usage: process_group PART_OF_THE_TEST
#include "core/process_group.h"

#include <functional>
#include <iostream>
#include <map>
#include <stdexcept>

#include "core/error.h"

namespace amalgam {
namespace {

void expect(bool holds, const char* what) {
  if (!holds) throw std::runtime_error(what);
}

bool throws(const std::function<void()>& work) {
  try {
    work();
  } catch (const c10::Error&) {
    return true;
  }
  return false;
}

void expect_sums(const ProcessGroup& group) {
  // Just above the pieces in which sums travel: whole numbers, which add exactly whatever the order.
  for (const int64_t size : {int64_t{0}, int64_t{1}, int64_t{1000}, (int64_t{1} << 24) + 3})
    for (const auto dtype : {at::kFloat, at::kDouble, at::kLong}) {
      if (size > 1000 && dtype != at::kFloat) continue;
      const at::Tensor own = at::arange(size, at::kLong).remainder(1000).add(group.rank()).to(dtype);
      const at::Tensor whole = at::arange(size, at::kLong).remainder(1000).mul(3).add(0 + 1 + 2).to(dtype);
      at::Tensor sum = own.clone();
      group.sum_to_root(sum);
      expect(at::equal(sum, group.is_root() ? whole : own), "the root has the sum, the others what they had");
    }
  at::Tensor scalar = at::scalar_tensor(0.5, at::kDouble);
  group.sum_to_root(scalar);
  expect(scalar.item<double>() == (group.is_root() ? 1.5 : 0.5), "a tensor without axes is added");
}

/// One member's mistake is thrown by all, and the group goes on.
void expect_agreement(const ProcessGroup& group) {
  const bool last = group.rank() == 2;
  at::Tensor transposed = last ? at::ones({2, 3}, at::kDouble).t() : at::ones({3, 2}, at::kDouble);
  expect(throws([&] { group.sum_to_root(transposed); }), "a tensor that is not contiguous is refused by all");
  at::Tensor longer = at::ones({last ? 4 : 3}, at::kDouble);
  expect(throws([&] { group.sum_to_root(longer); }), "tensors of other sizes are refused by all");
  at::Tensor other = at::ones({3}, last ? at::kFloat : at::kDouble);
  expect(throws([&] { group.sum_to_root(other); }), "tensors of other dtypes are refused by all");
  at::Tensor half = at::ones({3}, at::kHalf);
  expect(throws([&] { group.sum_to_root(half); }), "half precision is refused");
  expect(throws([] { ProcessGroup(); }), "a second group is refused");
}

void expect_texts(const ProcessGroup& group) {
  const std::string long_text((size_t{1} << 24) + 5, 'x');
  expect(group.broadcast(group.is_root() ? "of the root" : "of another") == "of the root", "the root's text is sent");
  expect(group.broadcast(group.is_root() ? "" : "of another").empty(), "an empty text is sent");
  expect(group.broadcast(group.is_root() ? long_text + "." : "") == long_text + ".", "a long text is sent");

  const std::vector<std::string> root_only = {std::string("a\0b", 3), "", long_text + "."};
  const auto all = group.gather(root_only.at(static_cast<size_t>(group.rank())));
  expect(group.is_root() ? all == root_only : all.empty(), "the root has all texts, by rank");
}

/// Tensors of any kind go to the root, each from its own process, and the others need not be there.
void expect_tensors(const ProcessGroup& group) {
  const auto of = [](int rank) -> std::vector<at::Tensor> {
    if (rank == 1)
      return {at::arange(6, at::kDouble).view({2, 3}), at::empty({0, 4}), at::scalar_tensor(7, at::kLong),
              at::ones({3}, at::kHalf), at::ones({2, 2}, at::kBool)};
    return {at::arange((int64_t{1} << 24) + 3, at::kInt).to(at::kByte), at::full({2}, 0.5, at::kBFloat16)};
  };
  for (const int from : {1, 2, 1}) {
    if (group.rank() != from && !group.is_root()) continue;
    for (const at::Tensor& tensor : of(from)) {
      const at::Tensor received = group.to_root(group.rank() == from ? tensor : at::Tensor(), from);
      expect(received.scalar_type() == tensor.scalar_type() && at::equal(received, tensor),
             "a tensor goes to the root");
    }
  }
  expect(!group.to_root({}, 0).defined(), "nothing happens where the root sends to itself");
  expect(throws([&] { group.to_root({}, 3); }), "a process that is not there is refused");
}

void collectives() {
  const ProcessGroup group;
  expect(group.size() == 3 && group.local_rank() == group.rank() && group.is_root() == (group.rank() == 0),
         "three processes on one machine");
  expect(group.local_size() == 3, "all of them are counted");
  for (int rank = 0; rank < 3; ++rank) expect(group.any(group.rank() == rank), "one of them is any");
  expect(!group.any(false), "none is not any");
  expect_sums(group);
  expect_agreement(group);
  expect_texts(group);
  expect_tensors(group);
  group.barrier();
  if (group.is_root()) std::cout << "all well" << std::endl;
}

/// The last member ends all while the others wait for it.
void abort() {
  const ProcessGroup group;
  group.barrier();
  if (group.rank() == 2) {
    std::cerr << "last words";
    group.abort(5);
  }
  group.barrier();
  std::cout << "not ended" << std::endl;
}

/// The last member leaves by an exception while the others wait for it.
void exception() {
  const ProcessGroup group;
  group.barrier();
  if (group.rank() == 2) throw std::runtime_error("left by an exception");
  group.barrier();
  std::cout << "not ended" << std::endl;
}

void announced() { std::cout << "a group of " << ProcessGroup().size() << std::endl; }

}  // namespace
}  // namespace amalgam

int main(int count, char** words) {
  const std::map<std::string, std::function<void()>> parts = {{"collectives", amalgam::collectives},
                                                              {"abort", amalgam::abort},
                                                              {"exception", amalgam::exception},
                                                              {"announced", amalgam::announced}};
  try {
    parts.at(count > 1 ? words[1] : "")();
  } catch (const amalgam::InputError& error) {
    std::cerr << error.what() << std::endl;
    return 2;
  } catch (const std::exception& error) {
    std::cerr << "failed: " << error.what() << std::endl;
    return 1;
  }
}
