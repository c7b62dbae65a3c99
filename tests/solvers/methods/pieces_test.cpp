#include "solvers/methods/pieces.h"

#include <gmock/gmock.h>

#include "solvers/merge_case.h"

namespace amalgam {
namespace {

using test::MergeCase;
using testing::ElementsAre;

constexpr int64_t kBytesOfAnElement = 4096;  // of `group_bytes`, for each element of a piece

/// Parameters of odd sizes, larger than the pieces that these tests take.
std::unique_ptr<MergeCase> model(at::ScalarType dtype) {
  auto result = std::make_unique<MergeCase>();
  result->parameter("matrix", {13, 9});
  result->parameter("kernel", {3, 2, 5, 3});
  result->parameter("vector", {31});
  result->draw({"a", "b", "c"});
  result->store_as(dtype);
  result->build();
  return result;
}

std::vector<int64_t> begins(const MergeInput& input, const std::string& name, int64_t unit) {
  std::vector<int64_t> found;
  for_each_piece(
      input, name,
      [&](const MergeInput& piece, int64_t first) {
        found.push_back(first);
        const at::Tensor whole = input.base->get(name).flatten(), own = piece.base->get(name);
        EXPECT_TRUE(at::equal(own, whole.slice(0, first, first + own.numel())));
        EXPECT_EQ(piece.base->infos().at(name).shape, own.sizes().vec());
        EXPECT_TRUE(at::equal(piece.experts[1].tensors->get(name),
                              input.experts[1].tensors->get(name).flatten().slice(0, first, first + own.numel())));
      },
      unit);
  return found;
}

TEST(Pieces, FollowOneAnotherToTheEnd) {
  const auto merge_case = model(at::kFloat);
  MergeInput& input = merge_case->input;
  EXPECT_THAT(begins(input, "vector", 1), ElementsAre(0));
  input.group_bytes = 10 * kBytesOfAnElement;
  EXPECT_THAT(begins(input, "vector", 1), ElementsAre(0, 10, 20, 30));
}

TEST(Pieces, KeepRowsTogether) {
  const auto merge_case = model(at::kFloat);
  MergeInput& input = merge_case->input;
  input.group_bytes = 20 * kBytesOfAnElement;
  EXPECT_THAT(begins(input, "matrix", 9), ElementsAre(0, 18, 36, 54, 72, 90, 108));
  input.group_bytes = kBytesOfAnElement;
  EXPECT_THAT(begins(input, "kernel", 30), ElementsAre(0, 30, 60));
}

TEST(Pieces, HoldNothingElse) {
  const auto merge_case = model(at::kFloat);
  for_each_piece(merge_case->input, "vector", [&](const MergeInput& piece, int64_t) {
    EXPECT_THROW(piece.base->get("matrix"), c10::Error);
    EXPECT_THAT(piece.parameters, ElementsAre("vector"));
    EXPECT_EQ(piece.experts[2].task, "c");
  });
}

TEST(Pieces, OfAnEmptyParameterThereAreNone) {
  MergeCase empty;
  empty.parameter("nothing", {0, 4});
  empty.draw({"a"});
  empty.build();
  for_each_piece(empty.input, "nothing", [](const MergeInput&, int64_t) { FAIL(); });
  const auto merge = [](const MergeInput&, int64_t) -> at::Tensor { throw std::logic_error("there is no piece"); };
  EXPECT_EQ(merge_in_pieces(empty.input, "nothing", merge).sizes(), at::IntArrayRef({0, 4}));
}

TEST(Pieces, AreRoundedOnceToTheStoredDtype) {
  const auto merge_case = model(at::kBFloat16);
  merge_case->input.group_bytes = 7 * kBytesOfAnElement;
  const at::Tensor merged = merge_in_pieces(merge_case->input, "matrix", [](const MergeInput& piece, int64_t) {
    return read_parameter(*piece.base, "matrix", piece.device) * 1.2345F;
  });
  EXPECT_TRUE(at::equal(merged, (merge_case->base["matrix"].to(at::kFloat) * 1.2345F).to(at::kBFloat16)));
}

class PiecesOf : public testing::TestWithParam<std::string> {};

TEST_P(PiecesOf, GiveWhatTheWholeGives) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const auto merge_case = model(dtype);
    const NamedTensors whole = merge_case->merge(GetParam()).merged;
    merge_case->input.group_bytes = 7 * kBytesOfAnElement;
    const NamedTensors in_pieces = merge_case->merge(GetParam()).merged;
    for (const auto& [name, tensor] : whole)
      EXPECT_TRUE(at::allclose(in_pieces.at(name), tensor, dtype == at::kFloat ? 1e-6 : 1e-2, 1e-7)) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Methods, PiecesOf,
                         testing::Values("average", "{method: linear, weights: [0.5, -0.2, 1]}", "task_arithmetic",
                                         "model_stock", "karcher", "ties", "{method: ties, trim: tensor}", "pcb",
                                         "consensus", "breadcrumbs", "sce", "{method: sce, density: 0.3}", "della",
                                         "dare", "{method: dare, inner: ties}"),
                         [](const auto& param) { return "Of" + std::to_string(param.index); });

TEST(Pieces, GiveSlerpWhatTheWholeGives) {
  MergeCase two;
  two.parameter("matrix", {13, 9});
  two.draw({"a", "b"});
  two.build();
  const at::Tensor whole = two.merge("slerp").merged.at("matrix");
  two.input.group_bytes = 7 * kBytesOfAnElement;
  EXPECT_TRUE(at::allclose(two.merge("slerp").merged.at("matrix"), whole, 1e-12));
}

}  // namespace
}  // namespace amalgam
