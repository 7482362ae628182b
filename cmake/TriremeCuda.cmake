# CUDA: one plug-in library with the kernels, cuBLASLt and NCCL, which the program loads when the machine has a
# driver. TRIREME_CUDA: AUTO builds it when the toolkit is found, ON insists, OFF does not look.
set(TRIREME_CUDA AUTO CACHE STRING "CUDA: AUTO, ON or OFF")
set_property(CACHE TRIREME_CUDA PROPERTY STRINGS AUTO ON OFF)
set(TRIREME_CUDA_ARCHITECTURES 80-real 90 CACHE STRING "GPUs to compile for: sm_80, and sm_90 with PTX for later ones")

set(TRIREME_HAS_CUDA OFF)
if(NOT TRIREME_CUDA STREQUAL OFF AND NOT TRIREME_SANITIZE)
  find_program(CMAKE_CUDA_COMPILER nvcc HINTS ENV CUDA_HOME PATHS /usr/local/cuda PATH_SUFFIXES bin)
  if(CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_ARCHITECTURES ${TRIREME_CUDA_ARCHITECTURES})
    enable_language(CUDA)
    set(CMAKE_CUDA_STANDARD 20)
    set(CMAKE_CUDA_STANDARD_REQUIRED ON)
    # CMake 3.25 does not know that nvcc learnt C++20 in CUDA 12.
    if(NOT DEFINED CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
    endif()
    find_package(CUDAToolkit REQUIRED)
    find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
    find_library(NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_DIR})
    if(NCCL_INCLUDE_DIR AND NCCL_LIBRARY AND TARGET CUDA::cublasLt)
      set(TRIREME_HAS_CUDA ON)
    endif()
  endif()
  if(TRIREME_CUDA STREQUAL ON AND NOT TRIREME_HAS_CUDA)
    message(FATAL_ERROR "TRIREME_CUDA=ON needs nvcc, cuBLASLt and NCCL: "
      "nvcc ${CMAKE_CUDA_COMPILER}, NCCL ${NCCL_LIBRARY}")
  endif()
endif()
if(TRIREME_HAS_CUDA)
  message(STATUS "CUDA ${CUDAToolkit_VERSION}: building the plug-in for ${TRIREME_CUDA_ARCHITECTURES}")
else()
  message(STATUS "CUDA: not built")
endif()

# trireme_cuda_sources(file...): sources of the plug-in, from the folder that lists them.
function(trireme_cuda_sources)
  foreach(source ${ARGN})
    set_property(GLOBAL APPEND PROPERTY TRIREME_CUDA_SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/${source})
  endforeach()
endfunction()

# The folders whose types pass between the program and a plug-in. Each side has its own copy of their code.
set(TRIREME_PLUGIN_DEPS trireme_core_base trireme_core_device trireme_core_tensor trireme_parallel_comm)

function(trireme_add_cuda_plugin)
  get_property(sources GLOBAL PROPERTY TRIREME_CUDA_SOURCES)
  add_library(trireme_cuda MODULE ${sources})
  target_compile_options(trireme_cuda PRIVATE
    "$<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr;-Xcompiler=-Wall,-Wextra;-Xptxas=-v;--no-compress>")
  target_include_directories(trireme_cuda PRIVATE ${NCCL_INCLUDE_DIR})
  target_link_libraries(trireme_cuda PRIVATE ${TRIREME_PLUGIN_DEPS} CUDA::cudart CUDA::cublasLt ${NCCL_LIBRARY})
  set_target_properties(trireme_cuda PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}
    CUDA_COMPILER_LAUNCHER ${PROJECT_SOURCE_DIR}/cmake/nvcc_report.sh)
endfunction()
