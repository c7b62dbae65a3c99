#include "apps/report.h"

#include "apps/report_data.h"
#include "apps/report_page.h"
#include "core/atomic_file.h"

namespace amalgam {

void write_report(const RunFolder& folder) { write_file(folder.report(), report_page(read_run(folder))); }

}  // namespace amalgam
