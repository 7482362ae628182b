# The two commands a newcomer needs: `make demo` and `make test`. `make help` lists the others.
# JOBS=n limits parallel work; WERROR=ON turns warnings into errors.
SHELL := /bin/bash
JOBS ?= $(shell nproc)
WERROR ?= $(if $(CI),ON,OFF)
export JOBS WERROR

.DEFAULT_GOAL := build
.PHONY: help deps build demo test verify test-cuda-emulated test-cuda test-cuda-faults test-asan test-tsan bench bench-wire bench-sync bench-cuda fuzz coverage format check-format clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 20

deps:  ## install the Debian packages that are missing
	@cmake/install_debian_packages.sh

build: deps  ## build/trireme
	@tests/run.sh build trireme

demo: deps  ## train over 4 MPI ranks on real text, about two minutes
	@examples/demo.sh

test: deps  ## every test, and the thread ranks under ThreadSanitizer
	@tests/run.sh test

verify: deps  ## every layout of 8 ranks against one rank, in f64, and a cover of those of a hybrid: more than fifteen minutes
	@tests/run.sh verify

test-cuda-emulated: deps  ## what runs on GPUs, on an emulated one: needs the CUDA toolkit, no GPU
	@tests/run.sh cuda-emulated

test-cuda: deps  ## the same on the GPUs of this machine
	@tests/run.sh cuda

test-cuda-faults: deps  ## seven faults planted in kernels and calls of CUDA: the suites find each, about fifteen minutes
	@tests/cuda_emulation/plant_faults.sh

test-asan: deps  ## every test under AddressSanitizer and UndefinedBehaviorSanitizer
	@tests/run.sh asan

test-tsan: deps  ## the suites with thread ranks under ThreadSanitizer
	@tests/run.sh tsan

bench: deps  ## benchmarks against the libraries called directly
	@tests/bench/run.sh

bench-wire: deps  ## data parallelism and rarer or smaller exchanges over a cluster of slow links, as root: about five minutes
	@tests/bench/slow_wire.sh

bench-sync: deps  ## rules of synchronization: accuracy against bytes, 16 replicas, 10 seeds; more than an hour, may be stopped and goes on
	@tests/bench/sync_pareto.sh

bench-cuda: deps  ## classes of kernels and a training step on the GPU of this machine
	@tests/bench/run_cuda.sh

fuzz:  ## each parser's fuzz target for FUZZ_SECONDS (30)
	@cmake/install_debian_packages.sh clang libclang-rt-dev
	@tests/fuzz/run.sh

coverage: deps  ## line coverage of the parsers, at least 90 %
	@tests/coverage.sh

SOURCES = $(shell git ls-files '*.cc' '*.h' '*.cu')

format:  ## clang-format, in place
	@cmake/install_debian_packages.sh clang-format
	clang-format -i $(SOURCES)

check-format:  ## what clang-format would change
	@cmake/install_debian_packages.sh clang-format
	clang-format --dry-run --Werror $(SOURCES)

clean:  ## remove build folders
	rm -rf build build-*
