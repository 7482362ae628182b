# trireme_module(<folder> SOURCES a.cc ... [DEPS core/base ... or library targets])
#
# One static library per folder, named after it: core/base becomes trireme_core_base, with the alias
# trireme::core_base. DEPS names folders of the tree or targets of other libraries.
function(trireme_module folder)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  string(REPLACE "/" "_" name ${folder})
  set(target trireme_${name})
  add_library(${target} STATIC ${ARG_SOURCES})
  add_library(trireme::${name} ALIAS ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
  target_link_libraries(${target} PUBLIC trireme_flags)
  foreach(dep ${ARG_DEPS})
    if(dep MATCHES "::")
      target_link_libraries(${target} PUBLIC ${dep})
    else()
      string(REPLACE "/" "_" dep_name ${dep})
      target_link_libraries(${target} PUBLIC trireme_${dep_name})
    endif()
  endforeach()
  set_property(GLOBAL APPEND PROPERTY TRIREME_MODULES ${target})
endfunction()

# trireme_test(<name> SOURCES a_test.cc ... [DEPS ...] [TIMEOUT seconds] [THREADS | THREADS_QUICK]
# [CUDA filter]): one GoogleTest program; each test is a ctest entry. The gtest and Abseil headers are
# precompiled once, in tests/testing. THREADS: it starts threads, and `make test-tsan` runs it; THREADS_QUICK:
# `make test` runs it so as well. CUDA: the tests that match run on the emulated GPU too, as
# <test>.cuda_emulated, and on a real one, together, as <name>.cuda: `make test-cuda`.
function(trireme_test name)
  cmake_parse_arguments(ARG "THREADS;THREADS_QUICK" "TIMEOUT;CUDA" "SOURCES;DEPS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  if(TRIREME_SANITIZE)
    math(EXPR ARG_TIMEOUT "${ARG_TIMEOUT} * 4")
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE trireme_testing)
  target_precompile_headers(${name} REUSE_FROM trireme_testing)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests")
  foreach(dep ${ARG_DEPS})
    if(dep MATCHES "::")
      target_link_libraries(${name} PRIVATE ${dep})
    else()
      string(REPLACE "/" "_" dep_name ${dep})
      target_link_libraries(${name} PRIVATE trireme_${dep_name})
    endif()
  endforeach()
  set(label single)
  if(ARG_THREADS OR ARG_THREADS_QUICK)
    set(label threads)
    add_dependencies(thread_tests ${name})
  endif()
  if(ARG_THREADS_QUICK)
    set(label threads_quick)
    add_dependencies(thread_tests_quick ${name})
  endif()
  set(environment)
  if(TRIREME_SANITIZE MATCHES "thread")
    set(environment
      ENVIRONMENT TSAN_OPTIONS=suppressions=${PROJECT_SOURCE_DIR}/tests/tsan_suppressions.txt)
  endif()
  gtest_discover_tests(${name} NO_PRETTY_VALUES
    DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS ${label} ${environment})
  if(ARG_CUDA AND TRIREME_HAS_CUDA)
    add_dependencies(${name} trireme_cuda_emulated)
    gtest_discover_tests(${name} NO_PRETTY_VALUES TEST_FILTER ${ARG_CUDA} TEST_SUFFIX .cuda_emulated
      TEST_LIST ${name}_cuda_emulated EXTRA_ARGS --device=cuda_emulated
      DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS cuda_emulated)
    add_test(NAME ${name}.cuda COMMAND ${name} --device=cuda --gtest_filter=${ARG_CUDA})
    set_tests_properties(${name}.cuda PROPERTIES TIMEOUT 600 LABELS cuda RUN_SERIAL ON
      SKIP_REGULAR_EXPRESSION "SKIPPED: no GPU")
  endif()
endfunction()

# How MPI programs are started in tests: the only place that knows the flags. Open MPI refuses root and
# more ranks than cores unless told, and binds each rank to a core, which starves its threads.
function(trireme_mpiexec_command out num_ranks)
  execute_process(COMMAND ${MPIEXEC_EXECUTABLE} --version OUTPUT_VARIABLE version ERROR_QUIET)
  set(flags)
  if(version MATCHES "Open ?(MPI|RTE)")
    set(flags -q --allow-run-as-root --oversubscribe --bind-to none)
  endif()
  set(${out} ${MPIEXEC_EXECUTABLE} ${flags} ${MPIEXEC_NUMPROC_FLAG} ${num_ranks} PARENT_SCOPE)
endfunction()

# trireme_mpi_test(<name> RANKS 1 2 4 SOURCES a_test.cc ... [DEPS ...] [TIMEOUT seconds]
# [THREADS | THREADS_QUICK] [CUDA filter]): one GoogleTest program for all worlds (tests/testing/ranks.h). Run plainly each
# test is a ctest entry, as with trireme_test; and the whole program is run under mpiexec on each count of
# RANKS, as <name>.mpi<N>.
function(trireme_mpi_test name)
  cmake_parse_arguments(ARG "THREADS;THREADS_QUICK" "TIMEOUT;CUDA" "RANKS;SOURCES;DEPS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  set(threads)
  foreach(option THREADS THREADS_QUICK)
    if(ARG_${option})
      list(APPEND threads ${option})
    endif()
  endforeach()
  trireme_test(${name} SOURCES ${ARG_SOURCES} DEPS ${ARG_DEPS} ${threads} CUDA ${ARG_CUDA})
  target_link_libraries(${name} PRIVATE trireme_testing_ranks)
  if(TRIREME_SANITIZE MATCHES "thread")
    return()  # The MPI library is not instrumented.
  endif()
  foreach(num_ranks ${ARG_RANKS})
    trireme_mpiexec_command(command ${num_ranks})
    add_test(NAME ${name}.mpi${num_ranks} COMMAND ${command} $<TARGET_FILE:${name}> --mpi)
    set_tests_properties(${name}.mpi${num_ranks} PROPERTIES
      TIMEOUT ${ARG_TIMEOUT} LABELS mpi PROCESSORS ${num_ranks}
      ENVIRONMENT ASAN_OPTIONS=detect_leaks=0)  # MPI keeps its own.
    if(ARG_CUDA AND TRIREME_HAS_CUDA AND num_ranks GREATER 1)
      add_test(NAME ${name}.mpi${num_ranks}.cuda_emulated COMMAND ${command} $<TARGET_FILE:${name}> --mpi
        --device=cuda_emulated --gtest_filter=${ARG_CUDA})
      set_tests_properties(${name}.mpi${num_ranks}.cuda_emulated PROPERTIES
        TIMEOUT ${ARG_TIMEOUT} LABELS cuda_emulated PROCESSORS ${num_ranks})
    endif()
  endforeach()
endfunction()
