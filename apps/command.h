#pragma once

namespace amalgam {

/// The `amalgam` command. An executable that links this library and registers merge methods of its own gets the whole
/// command by calling it from `main`.
/// @return 0 done; 1 failed while running; 2 the recipe or the command line is wrong, found before any heavy work; 130
/// stopped by SIGINT or SIGTERM
int run_command(int argc, const char* const* argv);

}  // namespace amalgam
