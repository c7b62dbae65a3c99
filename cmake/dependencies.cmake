# Everything that amalgam uses and does not make itself, as one target.

# LibTorch's CMake files fail without an architecture where there is no GPU to ask.
if(NOT DEFINED ENV{TORCH_CUDA_ARCH_LIST} AND NOT TORCH_CUDA_ARCH_LIST)
  set(TORCH_CUDA_ARCH_LIST "8.0;9.0")
endif()
find_package(Torch REQUIRED)
if(NOT Torch_VERSION VERSION_GREATER_EQUAL 2.11 OR NOT Torch_VERSION VERSION_LESS 2.12)
  message(FATAL_ERROR "LibTorch ${Torch_VERSION} was found; amalgam's taps were tried with 2.11 only. Point CMAKE_PREFIX_PATH "
                      "at a LibTorch 2.11 (scripts/setup gets one).")
endif()

if(AMALGAM_CUDA STREQUAL "AUTO")
  if(TARGET torch_cuda)
    set(AMALGAM_HAS_CUDA 1)
  else()
    set(AMALGAM_HAS_CUDA 0)
  endif()
elseif(AMALGAM_CUDA)
  if(NOT TARGET torch_cuda)
    message(FATAL_ERROR "AMALGAM_CUDA is ON, but this LibTorch was built without CUDA. Give another one, or -DAMALGAM_CUDA=OFF.")
  endif()
  set(AMALGAM_HAS_CUDA 1)
else()
  set(AMALGAM_HAS_CUDA 0)
endif()

find_package(yaml-cpp REQUIRED)
find_package(CLI11 REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
find_package(ZLIB REQUIRED)
find_package(Threads REQUIRED)

add_library(amalgam_dependencies INTERFACE)
# LibTorch brings fmt's headers (12); a system fmt of another version stays apart by its inline namespace.
target_compile_definitions(amalgam_dependencies INTERFACE FMT_HEADER_ONLY)
target_include_directories(amalgam_dependencies SYSTEM INTERFACE ${TORCH_INCLUDE_DIRS})
target_link_libraries(amalgam_dependencies INTERFACE torch yaml-cpp CLI11::CLI11 nlohmann_json::nlohmann_json
                                                     OpenSSL::Crypto ZLIB::ZLIB Threads::Threads)

# LibTorch's wheel exports a std::filesystem of its own, older than the system's, with other layouts: remove_all crashes and
# iterators differ. The dynamic linker takes the first library that has a name, so libstdc++ must come before LibTorch.
target_link_options(amalgam_dependencies INTERFACE LINKER:--push-state,--no-as-needed -lstdc++ LINKER:--pop-state)
