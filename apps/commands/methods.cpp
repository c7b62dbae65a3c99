#include "apps/commands/commands.h"
#include "solvers/methods/method.h"

namespace amalgam {

namespace {

/// What a method cannot do without, in words.
std::string needs_of(const std::string& name) {
  const auto requirements = make_method(name, {}, "methods")->requirements();
  std::string needs = requirements.base ? "base" : "";
  for (const auto kind : requirements.statistics) needs += (needs.empty() ? "" : ", ") + std::string(name_of(kind));
  if (requirements.adapters) needs += (needs.empty() ? "" : ", ") + std::string("adapters");
  if (requirements.runs_models()) needs += (needs.empty() ? "" : ", ") + std::string("the models and examples");
  return needs.empty() ? "experts only" : needs;
}

using Rows = std::vector<std::vector<std::string>>;

Rows method_rows() {
  Rows rows = {{"method", "needs", "what it does", "source"}};
  for (const auto& name : method_names()) {
    const auto& entry = find_method(name, "methods");
    rows.push_back({name, needs_of(name), entry.summary, entry.source});
  }
  return rows;
}

Rows option_rows(const std::string& name) {
  Rows rows = {{"option", "default", "values", "meaning"}};
  for (const auto& option : describe_options(name))
    rows.push_back({option.name, option.default_text, option.type, option.help});
  return rows;
}

/// A Markdown table; what stands in the first `code` columns is code.
std::string markdown(const Rows& rows, size_t code) {
  std::string text;
  for (size_t r = 0; r < rows.size(); ++r) {
    for (size_t i = 0; i < rows[r].size(); ++i) {
      std::string cell;
      for (const char c : rows[r][i]) cell += c == '|' ? std::string("\\|") : std::string(1, c);
      text += r > 0 && i < code && !cell.empty() ? "| `" + cell + "` " : "| " + cell + " ";
    }
    text += "|\n";
    if (r > 0) continue;
    for (size_t i = 0; i < rows[0].size(); ++i) text += "| --- ";
    text += "|\n";
  }
  return text;
}

std::string markdown_of_all() {
  std::string text = markdown(method_rows(), 1);
  for (const auto& name : method_names()) text += "\n### " + name + "\n\n" + markdown(option_rows(name), 2);
  return text;
}

std::string text_of(const std::string& name) {
  const auto& entry = find_method(name, "methods");
  return fmt::format("{}: {}\nsource: {}\nneeds:  {}\n\n{}", entry.name, entry.summary, entry.source, needs_of(name),
                     format_table(option_rows(name), 4));
}

}  // namespace

void add_methods(CLI::App& app) {
  auto* command = app.add_subcommand("methods", "the merge methods: what each needs, its options and their defaults");
  command->footer("Example:\n  amalgam methods mats");
  auto name = std::make_shared<std::string>();
  auto as_markdown = std::make_shared<bool>(false);
  command->add_option("name", *name, "one method, with all its options");
  command->add_flag("--markdown", *as_markdown, "all methods with all options, as the documentation has them");
  command->callback([name, as_markdown] {
    fmt::print("{}", *as_markdown    ? markdown_of_all()
                     : name->empty() ? format_table(method_rows(), 4)
                                     : text_of(*name));
  });
}

}  // namespace amalgam
