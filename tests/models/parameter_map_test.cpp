#include "models/parameter_map.h"

#include <gtest/gtest.h>

namespace amalgam {
namespace {

TEST(ParameterMap, FindsTheParameterOfAViewByItsMemory) {
  const at::Tensor weight = at::zeros({6, 4}), other = at::zeros({6, 4});
  const ParameterMap map({{"weight", weight}});
  for (const at::Tensor& view : {weight, weight.t(), weight.narrow(0, 2, 2), weight.detach(), weight.view({2, 12})}) {
    ASSERT_NE(map.owner(view), nullptr);
    EXPECT_EQ(map.owner(view)->name, "weight");
  }
  EXPECT_EQ(map.owner(other), nullptr);
  EXPECT_EQ(map.owner(weight.clone()), nullptr);
  EXPECT_EQ(map.owner(at::Tensor()), nullptr);
}

TEST(ParameterMap, TellsParametersOfOneStorageApartByTheirOffsets) {
  const at::Tensor flat = at::zeros({20});
  const at::Tensor a = flat.narrow(0, 0, 12).view({3, 4}), b = flat.narrow(0, 12, 8).view({2, 4});
  const ParameterMap map({{"a", a}, {"b", b}});
  EXPECT_EQ(map.owner(a)->name, "a");
  EXPECT_EQ(map.owner(b.t())->name, "b");
  EXPECT_EQ(map.owner(flat), nullptr);
  EXPECT_EQ(map.overlapping(flat).size(), 2U);
}

TEST(RowSlice, IsFoundInAWeightAndInItsTranspose) {
  const at::Tensor weight = at::zeros({6, 4});
  for (const auto& [begin, end] : std::vector<std::pair<int64_t, int64_t>>{{0, 6}, {0, 1}, {2, 5}, {5, 6}}) {
    const auto rows = row_slice(weight, weight.slice(0, begin, end));
    ASSERT_TRUE(rows.has_value());
    EXPECT_EQ(rows->begin, begin);
    EXPECT_EQ(rows->end, end);
  }
  const auto columns = row_slice(weight.t(), weight.slice(1, 1, 3).t());
  ASSERT_TRUE(columns.has_value());
  EXPECT_EQ(columns->begin, 1);
  EXPECT_EQ(columns->end, 3);
}

TEST(RowSlice, IsNotFoundInOtherPartsOfAWeight) {
  const at::Tensor weight = at::zeros({6, 6});
  EXPECT_FALSE(row_slice(weight, weight.t()).has_value());
  EXPECT_FALSE(row_slice(weight, weight.slice(1, 0, 3)).has_value());
  EXPECT_FALSE(row_slice(weight, weight.slice(0, 0, 6, 2)).has_value());
  EXPECT_FALSE(row_slice(weight, weight.view({36})).has_value());
}

}  // namespace
}  // namespace amalgam
