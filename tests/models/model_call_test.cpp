#include "models/model_call.h"

#include <torch/script.h>

#include "expect_error.h"

namespace amalgam {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const at::Tensor kLogits = at::ones({2, 3}), kHidden = at::zeros({2, 8});

std::string refusal(const c10::IValue& returned, const std::string& choice) {
  return input_error_of([&] { chosen_output(returned, choice, "m.pt"); });
}

TEST(ChosenOutput, IsTheTensorThatAModelReturns) {
  EXPECT_TRUE(chosen_output(kLogits, "", "m.pt").is_same(kLogits));
  EXPECT_THAT(refusal(kLogits, "logits"), AllOf(HasSubstr("[2, 3] alone"), HasSubstr("leave `output` out")));
}

TEST(ChosenOutput, IsThePositionOfATupleOrList) {
  const c10::IValue tuple = c10::ivalue::Tuple::create({kLogits, kHidden});
  const c10::IValue list = c10::List<at::Tensor>({kLogits, kHidden});
  for (const c10::IValue& returned : {tuple, list}) {
    EXPECT_TRUE(chosen_output(returned, "0", "m.pt").is_same(kLogits));
    EXPECT_TRUE(chosen_output(returned, "1", "m.pt").is_same(kHidden));
    EXPECT_THAT(refusal(returned, ""), AllOf(HasSubstr("m.pt"), HasSubstr("'0'"), HasSubstr("'1'")));
    EXPECT_THAT(refusal(returned, "2"), HasSubstr("no '2'"));
  }
}

TEST(ChosenOutput, IsTheKeyOfADict) {
  c10::Dict<std::string, at::Tensor> dict;
  dict.insert("logits", kLogits);
  EXPECT_TRUE(chosen_output(dict, "", "m.pt").is_same(kLogits));
  dict.insert("hidden", kHidden);
  EXPECT_TRUE(chosen_output(dict, "logits", "m.pt").is_same(kLogits));
  EXPECT_THAT(refusal(dict, ""), AllOf(HasSubstr("'logits'"), HasSubstr("[2, 8]")));
  EXPECT_THAT(refusal(dict, "0"), HasSubstr("no '0'"));
}

TEST(ChosenOutput, IsTheOnlyTensorBesideNothing) {
  EXPECT_TRUE(chosen_output(c10::ivalue::Tuple::create({kLogits, c10::IValue()}), "", "m.pt").is_same(kLogits));
  const c10::IValue nested = c10::ivalue::Tuple::create({kLogits, c10::ivalue::Tuple::create({kHidden})});
  EXPECT_THAT(refusal(nested, ""), HasSubstr("Tuple[Tensor]"));
  EXPECT_THAT(refusal(nested, "1"), HasSubstr("no tensor"));
  EXPECT_THAT(refusal(c10::ivalue::Tuple::create({}), ""), HasSubstr("Tuple[()]"));
}

}  // namespace
}  // namespace amalgam
