# Every header compiles alone, and twice in one file: the target header_check, not built by default.
file(GLOB_RECURSE headers RELATIVE "${PROJECT_SOURCE_DIR}" CONFIGURE_DEPENDS
  "${PROJECT_SOURCE_DIR}/core/*.h" "${PROJECT_SOURCE_DIR}/parallel/*.h"
  "${PROJECT_SOURCE_DIR}/models/*.h" "${PROJECT_SOURCE_DIR}/optim/*.h"
  "${PROJECT_SOURCE_DIR}/data/*.h" "${PROJECT_SOURCE_DIR}/launch/*.h"
  "${PROJECT_SOURCE_DIR}/tests/*.h")
set(sources "")
foreach(header trireme.h ${headers})
  string(REPLACE "/" "_" name "${header}")
  set(source "${CMAKE_CURRENT_BINARY_DIR}/header_check/${name}.cc")
  # GENERATE leaves a file whose content is the same untouched, so nothing is compiled again.
  file(GENERATE OUTPUT "${source}" CONTENT "#include \"${header}\"\n#include \"${header}\"\n")
  list(APPEND sources "${source}")
endforeach()
add_library(header_check OBJECT EXCLUDE_FROM_ALL ${sources})
get_property(modules GLOBAL PROPERTY TRIREME_MODULES)
target_link_libraries(header_check PRIVATE ${modules} GTest::gtest GTest::gmock)
target_compile_options(header_check PRIVATE -O0 -g0)
