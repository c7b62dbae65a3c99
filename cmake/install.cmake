# cmake --install gives a program that runs after the checkout is moved away (LibTorch stays where it is), headers, and
# find_package(amalgam).
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

get_filename_component(torch_library_dir "${TORCH_LIBRARY}" DIRECTORY)
list(GET MPI_C_LIBRARIES 0 mpi_library)
get_filename_component(mpi_library_dir "${mpi_library}" DIRECTORY)
set(install_rpath "$ORIGIN/../${CMAKE_INSTALL_LIBDIR};$ORIGIN;${torch_library_dir};${mpi_library_dir}")
set_target_properties(amalgam PROPERTIES INSTALL_RPATH "${install_rpath}")
install(TARGETS amalgam LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(TARGET amalgam_command)
  set_target_properties(amalgam_command PROPERTIES INSTALL_RPATH "${install_rpath}")
  install(TARGETS amalgam_command RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
foreach(room ${rooms})
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/${room} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/amalgam FILES_MATCHING PATTERN "*.h")
endforeach()
install(FILES ${PROJECT_BINARY_DIR}/generated/core/version.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/amalgam/core)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/configs DESTINATION ${CMAKE_INSTALL_DATADIR}/amalgam)

configure_package_config_file(cmake/amalgamConfig.cmake.in ${PROJECT_BINARY_DIR}/amalgamConfig.cmake
                              PATH_VARS CMAKE_INSTALL_LIBDIR CMAKE_INSTALL_INCLUDEDIR
                              INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/amalgam)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/amalgamConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/amalgamConfig.cmake ${PROJECT_BINARY_DIR}/amalgamConfigVersion.cmake
              ${PROJECT_SOURCE_DIR}/cmake/dependencies.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/amalgam)
