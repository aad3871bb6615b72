#include "bindings/arrays.h"

PYBIND11_MODULE(_core, m) {
  m.doc() = "narae's native core: kernels, threads, memory, recorder.";
  narae::Binding::define_all(m);
}
