# Flags that every target of the tree shares.
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1 -DNDEBUG")
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}")

add_library(trireme_flags INTERFACE)
target_compile_features(trireme_flags INTERFACE cxx_std_20)
# Ours alone: a project that links the installed libraries chooses its own.
set(flags -Wall -Wextra -march=${TRIREME_ARCH} -fno-math-errno -fno-trapping-math -ffp-contract=on -fopenmp-simd)
if(TRIREME_WERROR)
  list(APPEND flags -Werror)
endif()
target_compile_options(trireme_flags INTERFACE "$<BUILD_INTERFACE:$<$<COMPILE_LANGUAGE:C,CXX>:${flags}>>")
if(TRIREME_SANITIZE)
  target_compile_options(trireme_flags INTERFACE -fsanitize=${TRIREME_SANITIZE}
                         -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(trireme_flags INTERFACE -fsanitize=${TRIREME_SANITIZE})
  if(TRIREME_SANITIZE MATCHES "thread")
    # Protobuf's headers add members under this macro which the packaged library does not have.
    target_compile_options(trireme_flags INTERFACE -U__SANITIZE_THREAD__)
  endif()
endif()
target_include_directories(trireme_flags INTERFACE
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}> $<BUILD_INTERFACE:${PROJECT_BINARY_DIR}>
  $<INSTALL_INTERFACE:include/trireme>)
