#include "solvers/methods/information.h"

#include <gmock/gmock.h>

#include <limits>

#include "expect_error.h"
#include "solvers/merge_case.h"

namespace amalgam {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class Information : public ::testing::Test {
 protected:
  Information() {
    case_.parameter("p", {4});
    case_.draw({"left", "right"});
  }
  const ExpertInput& left() { return case_.input.experts[0]; }
  test::MergeCase case_;
};

TEST_F(Information, IsTheMeanOverExamplesOfTheSquares) {
  case_.build();
  const at::Tensor sum = case_.squared_gradients[0].at("p");
  const at::Tensor mean = information(*left().statistics, "task 'left'", {at::kDouble, {4}}, "p", at::kCPU);
  EXPECT_LE(test::difference(mean, sum / test::MergeCase::kExamples), 4 * test::kEps64);
}

TEST_F(Information, IsNowhereBelowTheFloor) {
  case_.squared_gradients[0]["p"] = at::tensor({20.0, 0.0, 60.0, 0.0}, at::kDouble);  // mean over 20 examples: 1 0 3 0
  case_.build();
  EXPECT_TRUE(
      at::equal(floored_information(left(), "p", 0.5, at::kCPU), at::tensor({1.0, 0.5, 3.0, 0.5}, at::kDouble)));
}

TEST_F(Information, IsRefusedWhereItIsOfAnotherShapeOrNotFinite) {
  case_.squared_gradients[0]["p"] = at::full({4}, std::numeric_limits<double>::quiet_NaN(), at::kDouble);
  case_.build();
  EXPECT_THAT(input_error_of([&] { floored_information(left(), "p", 0, at::kCPU); }),
              AllOf(HasSubstr("'left'"), HasSubstr("p/")));
  EXPECT_THAT(input_error_of([&] {
                information(*case_.input.experts[1].statistics, "the base", {at::kDouble, {2, 2}}, "p", at::kCPU);
              }),
              AllOf(HasSubstr("the base"), HasSubstr("[2, 2]")));
}

TEST_F(Information, IsThereWhereATaskWithASayHasSome) {
  case_.squared_gradients[0]["p"].zero_();
  case_.build();
  EXPECT_TRUE(anyone_knows(case_.input, "p"));
  case_.input.experts[1].weight = 0;
  EXPECT_FALSE(anyone_knows(case_.input, "p"));
}

}  // namespace
}  // namespace amalgam
