# cmake --install: the program, every module as a static library, headers under include/trireme, and the
# package that find_package(trireme) reads. Targets are named trireme::core_ops and so on, by folder.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

get_property(modules GLOBAL PROPERTY TRIREME_MODULES)
set_target_properties(trireme_flags PROPERTIES EXPORT_NAME flags)
install(TARGETS trireme_flags ${modules} EXPORT trireme
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(TARGET trireme)
  install(TARGETS trireme RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
foreach(folder core parallel models optim data launch)
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/${folder} ${PROJECT_BINARY_DIR}/${folder}
    DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/trireme
    FILES_MATCHING PATTERN "*.h" PATTERN "*.def" PATTERN "CMakeFiles" EXCLUDE)
endforeach()
install(FILES ${PROJECT_SOURCE_DIR}/trireme.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/trireme)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/trireme)
install(EXPORT trireme NAMESPACE trireme:: DESTINATION ${package_dir} FILE trireme-targets.cmake)
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/trireme-config.cmake.in
  ${PROJECT_BINARY_DIR}/trireme-config.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/trireme-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/trireme-config.cmake
  ${PROJECT_BINARY_DIR}/trireme-config-version.cmake DESTINATION ${package_dir})
