#include "solvers/plan_reads.h"

#include <gmock/gmock.h>

#include "core/error.h"
#include "solvers/interrupting_progress.h"
#include "solvers/merge_case.h"

namespace amalgam {
namespace {

using test::InterruptingProgress;
using test::MergeCase;
using testing::ElementsAre;

std::unique_ptr<MergeCase> model() {
  auto result = std::make_unique<MergeCase>();
  result->parameter("a", {1000, 125});  // a megabyte in float64
  result->parameter("b", {500, 125});
  result->draw({"left", "right"});
  result->build();
  return result;
}

/// Notes what it is told.
class Recorder final : public Progress {
 public:
  void begin(const std::string& what, int64_t total) override {
    noted.push_back(what + " of " + std::to_string(total));
  }
  void update(int64_t done, const std::string& note) override { noted.push_back(note + " at " + std::to_string(done)); }
  void end(const std::string&) override {}
  void message(const std::string&) override {}

  std::vector<std::string> noted;
};

TEST(PlanReads, CountsEachPassAnew) {
  const auto merge_case = model();
  Recorder recorder;
  PlanReads reads(merge_case->input, recorder);
  reads.during([&] {
    for (const char* name : {"a", "b", "a"})
      for (const ExpertInput& expert : merge_case->input.experts) expert.tensors->get(name);
  });
  EXPECT_THAT(recorder.noted, ElementsAre("plan, pass 1, MB of 3", "a at 0", "a at 1", "b at 2", "b at 2",
                                          "plan, pass 2, MB of 3", "a at 0", "a at 1"));
}

TEST(PlanReads, CountsNothingBesidePlans) {
  const auto merge_case = model();
  Recorder recorder;
  PlanReads reads(merge_case->input, recorder);
  merge_case->input.experts[0].tensors->get("a");
  reads.during([] {});
  merge_case->input.experts[0].tensors->get("a");
  EXPECT_TRUE(recorder.noted.empty());
}

TEST(PlanReads, StopsAMergeInMemoryWhileItPlans) {
  for (const char* entry : {"ties", "pcb", "opcm", "{method: dare, inner: ties}"}) {
    const auto merge_case = model();
    const auto method = make_method(YAML::Load(entry), "merge");
    InterruptingProgress progress(2);
    EXPECT_THROW(merge(*method, merge_case->input, progress), Interrupted) << entry;
  }
}

}  // namespace
}  // namespace amalgam
