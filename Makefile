# Five words: dev, test, lint, bench, san. `native` builds the extension in place without pip.
PYTHON ?= python3
ISAS ?=
CMAKE_ARGS ?=

dev:
	$(PYTHON) -m pip install -e '.[demo,test,dev]'

native:
	cmake -S . -B build/native -G Ninja -DCMAKE_BUILD_TYPE=Release -DNARAE_ISAS="$(ISAS)" \
	  -Dpybind11_DIR=$$($(PYTHON) -m pybind11 --cmakedir) -DPython_EXECUTABLE=$$(command -v $(PYTHON)) $(CMAKE_ARGS)
	cmake --build build/native

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

.PHONY: dev native test lint bench san
