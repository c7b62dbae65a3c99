#!/usr/bin/env bash
# Installs amalgam into an empty folder and expects: the program runs and knows nothing of the build, a method made
# outside the tree compiles against find_package(amalgam), runs, and merges. Usage: install_test.sh BUILD_DIR SOURCE_DIR
set -euo pipefail
build=$1 source=$2
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cmake --install "$build" --prefix "$place/installed" > "$place/log"
"$place/installed/bin/amalgam" --version
readelf -dW "$place/installed/bin/amalgam" "$place"/installed/lib*/libamalgam.so > "$place/needs"
grep -q 'NEEDED.*libamalgam' "$place/needs" && grep -q 'NEEDED.*libtorch' "$place/needs" ||
  { echo "readelf no longer says what is needed"; cat "$place/needs"; exit 1; }
# Nothing of the checkout may be needed: LibTorch alone stays where it is.
if grep -E 'RPATH|RUNPATH' "$place/needs" | grep -F "$build"; then
  echo "the installed program looks into the build folder"; exit 1
fi
# The program must load where there is no CUDA driver.
if grep -F 'libcuda.so.1' "$place/needs"; then
  echo "libcuda.so.1 must not be needed"; exit 1
fi
cp -r "$source/tests/plugin" "$place/plugin"
cmake -G Ninja -S "$place/plugin" -B "$place/plugin/build" -DCMAKE_PREFIX_PATH="$place/installed" -DCMAKE_BUILD_TYPE=Release \
  ${CUDAToolkit_ROOT:+-DCUDAToolkit_ROOT=$CUDAToolkit_ROOT -DCUDA_TOOLKIT_ROOT_DIR=$CUDAToolkit_ROOT} >> "$place/log" 2>&1 ||
  { cat "$place/log"; exit 1; }
cmake --build "$place/plugin/build" >> "$place/log" 2>&1 || { cat "$place/log"; exit 1; }
"$place/plugin/build/median" methods median | tee "$place/methods"
grep -q 'the middle value' "$place/methods"
"$place/plugin/build/median" methods mats > "$place/methods"
grep -q damping "$place/methods"
# expert NAME BYTES: a folder with a tensor of two float32 values
header='{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
expert() {
  mkdir "$place/$1"
  { printf "\\x$(printf %x ${#header})\\0\\0\\0\\0\\0\\0\\0%s" "$header"; printf "$2"; } > "$place/$1/model.safetensors"
}
expert a '\0\0\x80\x3f\0\0\x10\x41'  # 1, 9
expert b '\0\0\0\x40\0\0\x80\x3f'    # 2, 1
expert c '\0\0\x10\x41\0\0\0\x40'    # 9, 2
"$place/plugin/build/median" checkpoints --expert "$place/a" --expert "$place/b" --expert "$place/c" --method median \
  --device cpu --output "$place/merged" >> "$place/log" 2>&1 || { cat "$place/log"; exit 1; }
printf '\0\0\0\x40\0\0\0\x40' > "$place/middle"
tail -c 8 "$place/merged/model.safetensors" | cmp - "$place/middle" || { echo "merged to something else"; exit 1; }
