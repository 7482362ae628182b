# What no compiler checks: which folder may include which, sizes, names, ASCII, a README in every folder.
#   cmake -D ROOT=<source folder> -P tests/layering.cmake
# Prints every violation as path:line and fails when there is one.
cmake_minimum_required(VERSION 3.25)

# Each line: a folder, and the folders it may include besides itself. Inside core every folder has its
# own line; outside, a top folder has one.
set(allowed
  "core/base:"
  "core/device:core/base"
  "core/tensor:core/base,core/device"
  "core/autograd:core/base,core/device,core/tensor"
  "core/ops:core/base,core/device,core/tensor,core/autograd,core/batch.h"
  "core/module:core/base,core/device,core/tensor,core/autograd,core/ops,core/batch.h"
  "core/io:core/base,core/device,core/tensor"
  "core/batch.h:core/base,core/device,core/tensor"
  "core/batch.cc:core/base,core/device,core/tensor,core/batch.h"
  "parallel:core"
  "models:core,parallel"
  "optim:core,parallel"
  "data:core"
  "launch:core,parallel,models,optim,data"
  "trireme.h:core,parallel,models,optim"
  "examples:trireme.h,core,parallel,models,optim,data,launch"
  "tests:trireme.h,core,parallel,models,optim,data,launch,examples")
# The list that fills the kernel table is written by the ops; device/kernel.h reads it, and the check that a
# plug-in has the same table.
set(exceptions "core/device/kernel.h->core/ops/kernels.def" "core/device/plugin.cc->core/ops/kernels.def")

set(num_violations 0)
macro(violation text)
  message(STATUS "${text}")
  math(EXPR num_violations "${num_violations} + 1")
endmacro()

# The line of `allowed` that `path` falls under: the longest folder that is a prefix of it.
function(folder_of path result)
  set(best "")
  foreach(line ${allowed})
    string(REGEX REPLACE ":.*" "" folder "${line}")
    string(LENGTH "${folder}" length)
    string(LENGTH "${best}" best_length)
    if((path STREQUAL folder OR path MATCHES "^${folder}/") AND length GREATER best_length)
      set(best "${folder}")
    endif()
  endforeach()
  set(${result} "${best}" PARENT_SCOPE)
endfunction()

function(may_include from to result)
  set(${result} FALSE PARENT_SCOPE)
  folder_of("${from}" from_folder)
  foreach(exception ${exceptions})
    if("${from}->${to}" STREQUAL exception)
      set(${result} TRUE PARENT_SCOPE)
    endif()
  endforeach()
  foreach(line ${allowed})
    if(line MATCHES "^([^:]*):(.*)$" AND CMAKE_MATCH_1 STREQUAL from_folder)
      string(REPLACE "," ";" targets "${CMAKE_MATCH_2}")
      foreach(target ${from_folder} ${targets})
        if(to STREQUAL target OR to MATCHES "^${target}/")
          set(${result} TRUE PARENT_SCOPE)
        endif()
      endforeach()
    endif()
  endforeach()
endfunction()

set(tops core parallel models optim data launch examples tests)
set(files "trireme.h")
foreach(top ${tops})
  file(GLOB_RECURSE found RELATIVE "${ROOT}"
    "${ROOT}/${top}/*.h" "${ROOT}/${top}/*.cc" "${ROOT}/${top}/*.cu" "${ROOT}/${top}/*.cuh"
    "${ROOT}/${top}/*.def"
    "${ROOT}/${top}/*.proto")
  list(APPEND files ${found})
endforeach()
list(LENGTH files num_files)
if(num_files LESS 2)
  message(FATAL_ERROR "no sources under ${ROOT}")
endif()

set(folders "")
foreach(path ${files})
  # Semicolons and brackets would be taken for list syntax.
  file(READ "${ROOT}/${path}" text)
  string(REGEX REPLACE "[][;]" "," text "${text}")
  string(REGEX REPLACE "\n$" "" text "${text}")
  string(REPLACE "\n" ";" lines "${text}")
  list(LENGTH lines num_lines)

  set(limit 500)
  if(path MATCHES "\\.(h|cuh)$")
    set(limit 250)
    if(NOT text MATCHES "(^|\n)#pragma once\n")
      violation("${path}: no #pragma once")
    endif()
  endif()
  if(num_lines GREATER limit)
    violation("${path}: ${num_lines} lines, at most ${limit}")
  endif()

  get_filename_component(folder "${path}" DIRECTORY)
  list(APPEND folders "${folder}")
  get_filename_component(stem "${path}" NAME_WE)
  if("/${folder}/_${stem}_" MATCHES "[/_](util|utils|helper|helpers|manager|common|misc)[/_]")
    violation("${path}: a name that says nothing (${CMAKE_MATCH_1})")
  endif()

  if(text MATCHES "[^\t\n -~]")
    violation("${path}: not ASCII")
  endif()
  if(text MATCHES "\t")
    violation("${path}: a tab")
  endif()

  string(REGEX MATCHALL "(^|\n)#include \"[^\"\n]*\"" includes "${text}")
  foreach(include ${includes})
    string(REGEX REPLACE ".*\"(.*)\"" "\\1" to "${include}")
    if(NOT to MATCHES "^(trireme\\.h$|(core|parallel|models|optim|data|launch|examples|tests)/)")
      if(NOT to MATCHES "^(absl|gtest|gmock|google|benchmark|oneapi)/")
        violation("${path}: \"${to}\" is not a path from the root")
      endif()
      continue()
    endif()
    may_include("${path}" "${to}" fine)
    if(NOT fine)
      violation("${path}: must not include ${to}")
    endif()
  endforeach()

  if(text MATCHES "(TODO|FIXME)")
    string(REGEX MATCHALL "(TODO|FIXME)[^\n]*" marks "${text}")
    foreach(mark ${marks})
      if(NOT mark MATCHES "^TODO\\(#[0-9]+\\)")
        violation("${path}: ${mark} (write TODO(#issue), or do it)")
      endif()
    endforeach()
  endif()
endforeach()

list(REMOVE_DUPLICATES folders)
list(REMOVE_ITEM folders "")
foreach(folder ${folders})
  set(readme "${ROOT}/${folder}/README.md")
  if(NOT EXISTS "${readme}")
    # A folder of tests is described by the one above, as it mirrors the tree.
    if(NOT folder MATCHES "^tests/" OR folder MATCHES "^tests/(testing|bench|golden|fuzz)$")
      violation("${folder}: no README.md")
    endif()
    continue()
  endif()
  file(STRINGS "${readme}" readme_lines)
  list(LENGTH readme_lines num_lines)
  if(num_lines GREATER 20)
    violation("${folder}/README.md: ${num_lines} lines, at most 20")
  endif()
endforeach()

if(num_violations GREATER 0)
  message(FATAL_ERROR "${num_violations} violations in ${num_files} files")
endif()
message(STATUS "${num_files} files: no violation")
