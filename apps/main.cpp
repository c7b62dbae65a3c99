#include "apps/command.h"

int main(int argc, char** argv) { return amalgam::run_command(argc, argv); }
