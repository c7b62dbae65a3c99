#include <gmock/gmock.h>

#include "apps/report_page.h"

namespace amalgam {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

MergeRecord merge_of(const std::string& row) {
  MergeRecord merge;
  merge.row = merge.method = row;
  return merge;
}

TEST(ReportMaking, ListsTheMergesThatAreAdapters) {
  RunRecord run;
  run.merges = {merge_of("a<b"), merge_of("scaled"), merge_of("whole")};
  run.merges[0].adapter = AdapterRecord{.rank = 8, .lost = 0.125, .vectors = 0};
  run.merges[1].adapter = AdapterRecord{.rank = 0, .lost = 0, .vectors = 6};
  StepRecord step;
  step.kind = "merge";
  step.subject = "a<b";
  step.outputs = {{"merged/a.adapter/adapter_model.safetensors", {{"size", 3000}}},
                  {"merged/a.adapter/adapter_config.json", {{"size", 500}}},
                  {"merged/a.pt", {{"size", 9000000}}}};
  run.steps.push_back(step);
  const auto page = making_section(run);
  EXPECT_THAT(page, HasSubstr("a&lt;b</th><td class=\"word\">LoRA of rank 8</td><td>12.5 %</td><td>3.5 kB</td>"));
  EXPECT_THAT(page, HasSubstr("scaled</th><td class=\"word\">(IA)³, 6 vectors</td><td>0 %</td>"));
  const auto table = page.substr(page.find("The merges as adapters"));
  EXPECT_THAT(table.substr(0, table.find("</table>")), Not(HasSubstr("whole")));
}

TEST(ReportMaking, HasNoTableOfAdaptersWhereNoMergeIsOne) {
  RunRecord run;
  run.merges = {merge_of("whole")};
  EXPECT_THAT(making_section(run), AllOf(HasSubstr("whole"), Not(HasSubstr("as adapters"))));
}

}  // namespace
}  // namespace amalgam
