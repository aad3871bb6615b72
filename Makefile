# Five words: dev, test, lint, bench, san. `native` builds the extension in place without pip; `aarch64` cross-compiles it
# into build/aarch64 (needs ziglang: Clang with the headers and libraries of every target).
PYTHON ?= python3
ISAS ?=
CMAKE_ARGS ?=

dev:
	$(PYTHON) -m pip install -e '.[demo,test,dev]'

native:
	cmake -S . -B build/native -G Ninja -DCMAKE_BUILD_TYPE=Release -DNARAE_ISAS="$(ISAS)" \
	  -Dpybind11_DIR=$$($(PYTHON) -m pybind11 --cmakedir) -DPython_EXECUTABLE=$$(command -v $(PYTHON)) $(CMAKE_ARGS)
	cmake --build build/native

aarch64:
	cmake -S . -B build/aarch64 -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
	  "-DCMAKE_CXX_COMPILER=$$(command -v $(PYTHON));-m;ziglang;c++;-target;aarch64-linux-gnu" -DCMAKE_CXX_FLAGS=-Werror \
	  -Dpybind11_DIR=$$($(PYTHON) -m pybind11 --cmakedir) -DPython_EXECUTABLE=$$(command -v $(PYTHON))
	cmake --build build/aarch64

test:
	$(PYTHON) -m pytest

lint:
	ruff check . && ruff format --check .
	git ls-files 'cpp/*.h' 'cpp/*.cpp' | xargs clang-format --dry-run --Werror

bench:
	$(PYTHON) -m narae bench

san:
	$(MAKE) native CMAKE_ARGS="-DNARAE_SANITIZE=address,undefined"
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libstdc++.so.6)" ASAN_OPTIONS=detect_leaks=0 \
	  PYTHONPATH=python $(PYTHON) -m pytest -m "not keras and not data and not slow"

.PHONY: dev native aarch64 test lint bench san
