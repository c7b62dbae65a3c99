#!/usr/bin/env bash
# Installs amalgam into an empty folder, hides the build, and expects: the program runs, a method made outside the tree compiles
# against find_package(amalgam), runs, and merges. Usage: install_test.sh BUILD_DIR SOURCE_DIR
set -euo pipefail
build=$1 source=$2
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cmake --install "$build" --prefix "$place/installed" > "$place/log"
"$place/installed/bin/amalgam" --version
# Nothing of the checkout may be needed: LibTorch alone stays where it is.
if readelf -d "$place/installed/bin/amalgam" "$place/installed/lib/libamalgam.so" | grep -E 'RPATH|RUNPATH' | grep -F "$build"; then
  echo "the installed program looks into the build folder"; exit 1
fi
# The program must load where there is no CUDA driver.
if readelf -d "$place/installed/bin/amalgam" "$place/installed/lib/libamalgam.so" | grep -F 'libcuda.so.1'; then
  echo "libcuda.so.1 must not be needed"; exit 1
fi
cp -r "$source/tests/plugin" "$place/plugin"
cmake -G Ninja -S "$place/plugin" -B "$place/plugin/build" -DCMAKE_PREFIX_PATH="$place/installed" -DCMAKE_BUILD_TYPE=Release \
  ${CUDAToolkit_ROOT:+-DCUDAToolkit_ROOT=$CUDAToolkit_ROOT -DCUDA_TOOLKIT_ROOT_DIR=$CUDAToolkit_ROOT} >> "$place/log" 2>&1 ||
  { cat "$place/log"; exit 1; }
cmake --build "$place/plugin/build" >> "$place/log" 2>&1 || { cat "$place/log"; exit 1; }
"$place/plugin/build/median" methods median | tee "$place/methods"
grep -q 'the middle value' "$place/methods"
"$place/plugin/build/median" methods mats | grep -q damping
